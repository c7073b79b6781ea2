"""What cannot be processed stands in dead-letters as it came; the good records beside it count."""

import struct
import time
from pathlib import Path

import pytest

from schemas.ids import TIME_MARKER
from schemas.learning import LearningUpdate
from schemas.records import Reward, UserEvent
from schemas.topics import (
    CAMPAIGNS,
    DEAD_LETTERS,
    LEARNING_UPDATES,
    LOGGED_DECISIONS,
    REWARDS,
    USER_EVENTS,
    WAVE_STARTS,
)
from schemas.wire import Codec
from tests.kafka.harness import EVENTS, FEEDBACK, Sender, campaign, deployment, wait_until

YEAR_2099_MS = 4_070_908_800_000
USERS = [f"good-{number}" for number in range(200)]


@pytest.fixture
def loop(kafka, namespace, tmp_path: Path):
    with deployment(kafka, namespace, tmp_path) as made:
        yield made


def event(**changes) -> UserEvent:
    given = {"user_id": "good-1", "type": "open", "occurred_at_ms": int(time.time() * 1000)}
    return UserEvent(**{**given, **changes})


def reward(**changes) -> Reward:
    given = {"user_id": "good-1", "kind": "click", "occurred_at_ms": int(time.time() * 1000)}
    return Reward(**{**given, **changes})


def with_nan(codec: Codec) -> bytes:
    """A reward whose value is NaN: no constructor makes it, its bytes can be written."""
    raw = codec.encode("", reward(value=1.5))
    good, bad = struct.pack("<d", 1.5), struct.pack("<d", float("nan"))
    assert raw.count(good) == 1
    return raw.replace(good, bad)


def with_negative_time(codec: Codec) -> bytes:
    """An event of before 1970: zigzag makes an odd varint of it."""
    raw = codec.encode("", event(occurred_at_ms=1))
    prefix = raw.index(b"\x08open") + len(b"\x08open")
    assert raw[prefix] == 2  # zigzag of 1
    return raw[:prefix] + b"\x03" + raw[prefix + 1 :]  # of -2


def garbage(codec: Codec) -> dict[str, list[tuple[bytes | None, str]]]:
    """By topic: values, and what the reason of each must say."""
    late = LearningUpdate(
        campaign_id="no-such",
        wave=0,
        shard=0,
        policy_version=0,
        encoder_version="x",
        decided=0,
        open=0,
        deciding=False,
        time_ms=0,
    )
    anywhere: list[tuple[bytes | None, str]] = [
        (b"not avro at all", "wire format"),
        (b"", "wire format"),
        (b"\x00\x00\x00\x00\x07abc", "schema id 7 is unknown"),
        (b"\x00" * 500_000, "schema id 0 is unknown"),
    ]
    return {
        EVENTS: [
            *anywhere,
            (codec.encode("", reward()), "a groundswell.Reward where a UserEvent is due"),
            (codec.encode("", event())[:-3], "not the Avro of a UserEvent"),
            (with_negative_time(codec), "occurred_at_ms must lie in"),
            (codec.encode("", event(occurred_at_ms=YEAR_2099_MS)), "early"),
            (codec.encode("", event(type=TIME_MARKER)), "reserved"),
            (
                codec.encode("", event(attributes={f"a{i}": "x" * 4000 for i in range(40)})),
                "the profile would have",
            ),
            (None, "no value"),
        ],
        FEEDBACK: [
            *anywhere,
            (codec.encode("", event()), "a groundswell.UserEvent where a Reward is due"),
            (with_nan(codec), "value must be a finite number"),
            (codec.encode("", reward(occurred_at_ms=YEAR_2099_MS)), "early"),
            (codec.encode("", reward(decision_id="f" * 32)), "there is no decision"),
        ],
        USER_EVENTS.name: [*anywhere],
        REWARDS.name: [*anywhere],
        LOGGED_DECISIONS.name: [*anywhere],
        WAVE_STARTS.name: [*anywhere],
        CAMPAIGNS.name: [
            *anywhere,
            (codec.encode("", campaign(campaign_id="odd", policy="magic")), "magic"),
            (
                codec.encode("", campaign(campaign_id="odd", audience_segment="age >")),
                "audience.segment",
            ),
        ],
        LEARNING_UPDATES.name: [*anywhere, (codec.encode("", late), "no-such")],
    }


def test_garbage_on_every_input_is_put_aside_with_its_bytes_origin_and_reason(loop):
    loop.start(0)
    loop.wait_open(0)
    loop.import_people(USERS[:100])
    producer, ours = loop.producer(), loop.producer(partitioner="murmur2_random")
    expected: dict[tuple[str, bytes | None], str] = {}
    count = 0
    for topic, values in garbage(loop.codec).items():
        for number, (value, reason) in enumerate(values):
            key = "odd" if value and b"odd" in value else f"key-{number}"
            # A definition in another partition than its own is refused for that alone.
            sender = ours if topic == CAMPAIGNS.name else producer
            sender.produce(loop.prefix + topic, key=key, value=value)
            expected[topic, value] = reason
            count += 1
    two_mb = loop.producer(**{"message.max.bytes": 4_000_000})
    two_mb.produce(loop.prefix + CAMPAIGNS.name, key="big", value=b"\x01" * 2_000_000)
    two_mb.flush()
    expected[CAMPAIGNS.name, b"\x01" * 2_000_000] = "wire format"
    count += 1
    producer.flush()
    ours.flush()
    loop.import_people(USERS[100:])
    with Sender(loop) as sender:
        loop.apply(campaign(waves=1))
        wait_until(
            lambda: any(r.status == "closed" for r in loop.reports().values()), 60, "a wave closes"
        )
    wait_until(lambda: len(loop.read(DEAD_LETTERS)) >= count, 20, f"{count} dead letters")

    letters = loop.read(DEAD_LETTERS)
    assert len(letters) == count
    for letter in letters:
        headers = {name: value.decode() for name, value in letter.headers()}
        origin = headers["kafka_dlt-original-topic"].removeprefix(loop.prefix)
        if "the profile would have" in headers["kafka_dlt-exception-message"]:
            origin = EVENTS  # ingest has re-keyed it
        if "there is no decision" in headers["kafka_dlt-exception-message"]:
            origin = FEEDBACK
        reason = expected.pop((origin, letter.value()))
        assert reason in headers["kafka_dlt-exception-message"], (origin, letter.value()[:40])
        assert int(headers["kafka_dlt-original-offset"]) >= 0
        assert int(headers["kafka_dlt-original-partition"]) >= 0
    assert not expected
    assert {decision.user_id for decision in loop.decisions()} == set(USERS)
    snapshot = loop.settled_snapshot(sender)
    assert snapshot.feedback.get("click", 0) == sender.total("click")
    assert loop.workers[0].poll() is None
    assert loop.count(0, "shards_opened") == 1
