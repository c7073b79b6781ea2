"""The sender in .github/sender.md is what it says: twenty lines that work on a real Kafka."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import NewTopic
from msgspec.structs import replace

from schemas.records import Decision, Reward
from schemas.wire import Codec
from tests.contract.examples import EXAMPLES

ROOT = Path(__file__).parents[2]
SENDER = (ROOT / ".github" / "sender.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", SENDER, re.DOTALL)[0]


def test_the_sender_has_twenty_lines_that_fit_a_screen():
    lines = CODE.splitlines()
    assert len(lines) <= 20
    assert max(map(len, lines)) <= 100


def test_it_takes_nothing_but_a_kafka_client_and_an_avro_library():
    (imported,) = re.findall(r"^import (.+)$", CODE, re.MULTILINE)
    assert "from " not in CODE
    assert set(imported.split(", ")) == {"io", "time", "confluent_kafka", "fastavro"}


@pytest.mark.kafka
def test_it_sends_what_is_to_be_sent_and_its_receipts_are_read(kafka, namespace):
    names = {topic: namespace + topic for topic in ("send-decisions", "company-feedback")}
    for made in kafka.admin.create_topics([NewTopic(n, 1) for n in names.values()]).values():
        made.result(20)
    now_ms = int(time.time() * 1000)
    example = next(e for e in EXAMPLES if isinstance(e, Decision))
    good = replace(example, expires_at_ms=now_ms + 3_600_000)
    decisions = [
        replace(good, decision_id="none", action="no-send", channel=None, contact=None),
        replace(good, decision_id="late", expires_at_ms=now_ms - 1),
        good,
        replace(good, decision_id="refused", user_id="Jürgen 😀"),
    ]
    codec = Codec()
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    for decision in decisions:
        producer.produce(names["send-decisions"], codec.encode("any", decision))
    assert producer.flush(20) == 0

    code = CODE.replace("127.0.0.1:9092", kafka.bootstrap).replace("poll(60)", "poll(6)")
    for topic, name in names.items():
        code = code.replace(f'"{topic}"', f'"{name}"')
    send = "def send(decision): return decision['decision_id'] != 'refused'\n"
    subprocess.run([sys.executable, "-c", send + code], cwd=ROOT, check=True, timeout=60)

    reader = Consumer(
        {"bootstrap.servers": kafka.bootstrap, "group.id": "my-sender", "log_level": 0}
    )
    reader.assign([TopicPartition(names["company-feedback"], 0, 0)])
    receipts = [codec.decode(m.value(), Reward) for m in reader.consume(3, 3)]
    (committed,) = reader.committed([TopicPartition(names["send-decisions"], 0)], 10)
    reader.close()
    assert [(r.decision_id, r.kind, r.user_id) for r in receipts] == [
        (good.decision_id, "delivered", good.user_id),
        ("refused", "failed", "Jürgen 😀"),
    ]
    assert [r.reward_id for r in receipts] == [good.decision_id, "refused"]
    assert all(r.occurred_at_ms >= now_ms for r in receipts)
    assert (receipts[0].campaign_id, receipts[0].channel) == ("spring-sale", "email")
    assert committed.offset == 4
