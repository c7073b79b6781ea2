"""The commands of encoders against a real Kafka: from a key to a rollback."""

import dataclasses
import json
import stat
import sys

import msgspec
import pytest
import structlog
from confluent_kafka import Producer

from schemas.encoder_releases import EncoderReleases
from schemas.errors import ReleaseError
from schemas.hashing import partition_of
from schemas.learning import LearningExample
from schemas.manifest import Manifest
from schemas.records import UserEvent
from schemas.topics import ENCODER_RELEASES, LEARNING_EXAMPLES, USER_EVENTS
from schemas.wire import Codec
from streams.__main__ import main
from streams.core import releases as step
from streams.kafka.read import read_all
from streams.kafka.release_client import ReleaseClient
from streams.releases.fetch import Fetcher

pytestmark = pytest.mark.timeout(300)

AT_MS = 1_700_000_000_000


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["groundswell", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    monkeypatch.setenv("COLUMNS", "200")
    yield call
    structlog.reset_defaults()  # main() has bound it to the captured streams


@pytest.fixture
def loop(kafka, namespace, monkeypatch, run, tmp_path):
    for name, value in {
        "BOOTSTRAP": kafka.bootstrap,
        "TOPIC_PREFIX": namespace,
        "REPLICATION": "1",
        "MIN_INSYNC": "1",
        "USER_PARTITIONS": "2",
        "ENCODER_STORE": str(tmp_path / "store"),
    }.items():
        monkeypatch.setenv(f"GROUNDSWELL_{name}", value)
    code, _, err = run("topics", "ensure", "--sources-partitions", 2)
    assert code == 0, err
    return kafka.bootstrap


def test_from_a_key_to_a_rollback(loop, namespace, run, tmp_path):
    pytest.importorskip("torch", reason="training needs the extra: encoder")
    code, _, err = run("keys", "new", "team", "--folder", tmp_path)
    assert code == 0, err
    assert stat.S_IMODE((tmp_path / "team.key").stat().st_mode) == 0o600
    code, _, err = run("keys", "new", "team", "--folder", tmp_path)
    assert code == 1
    assert "is there already" in err

    rows = tmp_path / "rows.parquet"
    dataset = ("encoder", "dataset", "--company", 3, "--decisions", 5000, "--out", rows)
    assert run(*dataset)[:2] == (0, f"5000 decisions in {rows}\n")
    small = ("--z-size", 4, "--bits", 8, "--embedding", 8, "--epochs", 2)
    first, second = tmp_path / "1.0.0", tmp_path / "1.1.0"
    code, told, err = run("encoder", "train", rows, "--out", first, *small)
    assert code == 0, err
    assert "clicked" in told
    for name in ("report.html", "report.json", "curves.png"):
        assert (first / name).stat().st_size > 0, name
    second.mkdir()
    (second / "model.onnx").write_bytes((first / "model.onnx").read_bytes())
    manifest = Manifest.from_bytes((first / "manifest.json").read_bytes())
    newer = dataclasses.replace(manifest, version="1.1.0")
    (second / "manifest.json").write_bytes(newer.to_bytes())
    key = tmp_path / "team.key"
    for folder in (first, second):
        code, told, err = run("encoder", "publish", folder, "--key", key)
        assert code == 0, err
        assert told.startswith(f"published people@{folder.name}")
    assert "published already" in run("encoder", "publish", second, "--key", key)[1]

    client = ReleaseClient(loop, namespace, Codec())
    assert run("encoder", "promote", "people", "1.0.0")[0] == 0
    code, _, err = run("encoder", "promote", "people", "1.1.0")
    assert code == 1
    assert "not in shadow" in err
    assert run("encoder", "shadow", "people", "1.1.0")[0] == 0
    assert run("encoder", "promote", "people", "1.1.0")[0] == 0
    code, listed, _ = run("encoder", "list", "people")
    assert "people@1.0.0" in listed
    assert [line.split()[1] for line in listed.splitlines() if "1.1.0" in line] == ["live"]
    assert run("encoder", "rollback", "people")[0] == 0
    standing = client.named("people")
    assert (standing.live, standing.previous, standing.rollback) == ("1.0.0", "1.1.0", True)

    trusted = (tmp_path / "team.pub").read_text()
    fetcher = Fetcher.of(store=str(tmp_path / "store"), trusted=trusted, most_mb=8)
    for release in standing.releases:
        assert fetcher.fetch("people", release).z_size == 4
    keys = [record.key for record in read_all(loop, namespace + ENCODER_RELEASES.name)]
    assert set(keys) == {b"people"}


def test_two_who_change_a_step_at_once_are_told_apart(loop, namespace):
    client = ReleaseClient(loop, namespace, Codec())
    release = msgspec.convert(
        {
            "version": "1.0.0",
            "sha256": "0" * 64,
            "model_bytes": 1,
            "signer": "s",
            "published_at_ms": 0,
        },
        type=EncoderReleases.__annotations__["releases"].__args__[0],
    )
    first = step.publish(None, "people", release, AT_MS)
    client.write(first)
    mine, theirs = (step.promote(first, "1.0.0", AT_MS + k) for k in (1, 2))
    client.write(theirs)
    with pytest.raises(ReleaseError, match="someone else at the same time"):
        client.write(mine)


def test_an_encoder_that_was_never_published_is_told(loop, run):
    code, _, err = run("encoder", "promote", "people", "1.0.0")
    assert code == 1
    assert "nothing was published as 'people'" in err
    code, out, _ = run("encoder", "list")
    assert code == 0
    assert "nothing was published yet" in out
    code, _, err = run("encoder", "shadow", "people")
    assert code == 1
    assert "--end" in err


def test_what_stands_in_the_topics_becomes_a_file_of_decisions(loop, namespace, run, tmp_path):
    import pyarrow.parquet as pq

    rows = tmp_path / "rows.parquet"
    code, _, err = run("encoder", "dataset", "--out", rows)
    assert code == 1
    assert "run a campaign first" in err
    assert not rows.exists()
    codec, producer = Codec(), Producer({"bootstrap.servers": loop, "log_level": 0})

    def post(topic, record):
        number = partition_of(record.user_id, 2)
        value = codec.encode(topic.name, record)
        producer.produce(namespace + topic.name, value, record.user_id, number)

    for user in ("u1", "u2"):
        post(
            USER_EVENTS,
            UserEvent(
                user_id=user,
                type="imported",
                occurred_at_ms=AT_MS - 5,
                attributes={"plan": user},
                contacts={"email": "someone@example.org"},
            ),
        )
        example = LearningExample(
            decision_id=f"d-{user}",
            campaign_id="c",
            campaign_version=1,
            wave=0,
            user_id=user,
            reason="policy",
            action="letter",
            propensity_kind="drawn",
            actions=["letter"],
            probabilities=[1.0],
            context=b"",
            reward=0.0,
            policy_version=1,
            encoder_version="x",
            decided_at_ms=AT_MS,
            closed_at_ms=AT_MS + 1,
            feedback={"click": 1} if user == "u2" else {},
        )
        post(LEARNING_EXAMPLES, example)
    assert producer.flush(10) == 0
    code, out, err = run("encoder", "dataset", "--out", rows)
    assert (code, out) == (0, f"2 decisions in {rows}\n"), err
    table = sorted(pq.read_table(rows).to_pylist(), key=lambda row: row["clicked"])
    assert [json.loads(row["profile"])["attributes"]["plan"] for row in table] == ["u1", "u2"]
    assert [row["clicked"] for row in table] == [0.0, 1.0]
    assert "someone@example.org" not in rows.read_bytes().decode("latin-1")
