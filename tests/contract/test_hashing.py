"""Hashes that other processes, and other languages, must come to as well."""

import random

import numpy as np
import pytest
from aiokafka.partitioner import murmur2
from confluent_kafka import Producer
from confluent_kafka.admin import NewTopic
from scipy.stats import chi2, chisquare

from schemas.hashing import decision_id, fallback_id, id_hash, partition_of, seed_of, share_of

PARTITIONS = 7


# From Apache Kafka: org.apache.kafka.common.utils.UtilsTest, testMurmur2.
@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
)
def test_partitions_are_those_of_javas_default_partitioner(key, hashed):
    assert int(murmur2(key.encode())) % 2**32 == hashed % 2**32
    # Java: Utils.toPositive(murmur2(key)) % partitions
    for partitions in (1, 2, 7, 64, 4096):
        assert partition_of(key, partitions) == (hashed & 0x7FFFFFFF) % partitions


@pytest.mark.kafka
def test_partitions_are_those_of_librdkafkas_murmur2_random(kafka, namespace):
    draw = random.Random(5)
    keys = [f"user-{i}" for i in range(200)]
    keys += ["a", "Jürgen 😀", " ", "\u0000", "x" * 256]
    keys += ["".join(map(chr, draw.choices(range(32, 0xD7FF), k=n))) for n in range(1, 40)]
    topic = f"{namespace}keys"
    kafka.admin.create_topics([NewTopic(topic, PARTITIONS)])[topic].result(20)
    producer = Producer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "partitioner": "murmur2_random",
            "log_level": 0,
        }
    )
    landed: dict[str, int] = {}

    def note(error, message):
        assert error is None
        landed[message.key().decode()] = message.partition()

    for key in keys:
        producer.produce(topic, b"", key.encode(), on_delivery=note)
    assert producer.flush(20) == 0
    assert landed == {key: partition_of(key, PARTITIONS) for key in keys}


def test_users_spread_evenly_over_partitions():
    counts = np.bincount([partition_of(f"user-{i}", 64) for i in range(64_000)], minlength=64)
    assert chisquare(counts).pvalue > 0.001


def test_shares_are_uniform():
    shares = np.array([share_of("spring-sale", f"user-{i}") for i in range(100_000)])
    assert shares.min() >= 0.0
    assert shares.max() < 1.0
    counts, _ = np.histogram(shares, bins=100, range=(0.0, 1.0))
    assert chisquare(counts).pvalue > 0.001


def test_shares_for_two_purposes_are_independent():
    users = [f"user-{i}" for i in range(100_000)]
    pairs = [
        [int(10 * share_of(purpose, user)) for user in users] for purpose in ("holdout", "waves")
    ]
    table = np.zeros((10, 10))
    np.add.at(table, tuple(pairs), 1)
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / table.sum()
    statistic = ((table - expected) ** 2 / expected).sum()
    assert chi2.sf(statistic, 81) > 0.001


def test_ids_are_what_they_were_in_every_release():
    assert decision_id("spring-sale", 2, "u-1") == "91f1a7d0eb65019cf6d544cd78b3b2ff"
    assert decision_id("spring-sale", 2, "Jürgen 😀") == "8d2cb13445e399fb44881a2bc038d91b"
    assert fallback_id("u-1", "click", 5) == "14494d12dbbcbbeb761a139768dfd7d1"
    assert id_hash("r-1") == 18023989530770788021
    assert seed_of("spring-sale", 2, 1, 0) == 112072735658838603599874667373228616414
    assert share_of("spring-sale", "u-1") == 0.5365201692648208


def test_a_decisions_id_tells_campaign_wave_and_user_apart():
    ids = {
        decision_id(campaign, wave, user)
        for campaign in ("a", "a1", "b")
        for wave in (0, 1, 11)
        for user in ("1", "11", "u")
    }
    assert len(ids) == 27
    assert {len(made) for made in ids} == {32}
