"""Faults at which a worker must end, or not start, and say why."""

import re
import time
from dataclasses import dataclass

from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewPartitions, NewTopic

from schemas.topics import DEAD_LETTERS, SHARD_CHANGELOG
from streams.kafka.provision import describe_topics
from tests.chaos.changelog import Changelog
from tests.chaos.feeder import TICK, Feeder
from tests.chaos.report import Row, at_least, at_most, seen
from tests.kafka.harness import EVENTS, Deployment, wait_until
from tests.kafka.topic_settings import set_topic

EXIT_SETTING, EXIT_STATE = 1, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a worker ended."""

    code: int
    said: str
    seconds: float


def wait_end(deployed: Deployment, worker: int, timeout_s: float = 60) -> Ended:
    """Wait until a worker has ended by itself."""
    started = time.monotonic()
    code = deployed.workers.pop(worker).wait(timeout_s)
    return Ended(code=code, said=deployed.tail(worker), seconds=time.monotonic() - started)


def said(row: Row, ended: Ended, code: int, message: str) -> None:
    """The worker must have ended with a code, and a message that matches."""
    row.figures += [
        at_most("exit code other than due", abs(ended.code - code), "", 0),
        at_least("clear errors", len(re.findall(message, ended.said)), "", 1),
    ]
    row.notes.append(ended.said[-600:])


def loaded(deployed: Deployment, people: list[str], rate: float = 200.0) -> Feeder:
    """Start a worker and a load."""
    deployed.start(0)
    deployed.wait_open(0)
    feeder = Feeder(deployed, people, rate, witnesses=len(people) // 20)
    feeder.prepare()
    feeder.start()
    time.sleep(3)
    return feeder


def settle(row: Row, deployed: Deployment, feeder: Feeder) -> None:
    """Stop the load, wait until all is applied, and compare the profiles."""
    feeder.stop()
    changelog = Changelog(deployed)
    try:

        def applied() -> int:
            return sum(p.event_count(TICK) for p in changelog.profiles().values())

        wait_until(lambda: applied() >= feeder.total, 90, "all events are applied")
        ticks = {user: p.event_count(TICK) for user, p in changelog.profiles().items()}
    finally:
        changelog.close()
    row.events = feeder.total
    row.compare_each("events of", dict(feeder.truth), ticks)


def oversized(deployed: Deployment) -> Row:
    """Events that would make profiles too large, among good ones: the shard goes on."""
    row = Row(fault="an event that would make a state record too large", injected=40)
    people = [f"user-{number}" for number in range(200)]
    feeder = loaded(deployed, people)
    producer = deployed.producer()
    bad = [
        feeder.event(user, f"big-{user}", {f"a{i}": "x" * 4000 for i in range(40)})
        for user in people[100 : 100 + row.injected]
    ]
    for user, value in zip(people[100:], bad, strict=False):
        producer.produce(deployed.prefix + EVENTS, key=user, value=value)
    producer.flush()
    time.sleep(3)
    settle(row, deployed, feeder)
    letters = [letter.value() for letter in deployed.read(DEAD_LETTERS)]
    wrong = len(set(bad) ^ set(letters)) + len(letters) - len(set(letters))
    row.figures += [
        at_most("dead letters missing, doubled or not due", wrong, "", 0),
        at_most("shards opened again", deployed.count(0, "shards_opened") - 1, "", 0),
    ]
    deployed.assert_alive()
    return row


def refused_changelog(deployed: Deployment) -> Row:
    """The broker takes no changelog record any more: nothing is committed, the worker ends."""
    row = Row(fault="broker refuses a changelog record all the same", injected=1)
    changelog = deployed.prefix + SHARD_CHANGELOG.name
    people = [f"user-{number}" for number in range(200)]
    feeder = loaded(deployed, people)
    set_topic(deployed.admin, changelog, max_message_bytes=100)
    took = wait_end(deployed, 0)
    before = len(deployed.read(SHARD_CHANGELOG))
    said(
        row,
        took,
        EXIT_STATE,
        r"nothing was committed.*shard-changelog .*raise the topic's max\.message\.bytes",
    )
    row.figures.append(at_most("refusal to exit", took.seconds, "s", 5))
    time.sleep(1)
    row.figures.append(
        at_most("records committed after it", len(deployed.read(SHARD_CHANGELOG)) - before, "", 0)
    )
    set_topic(deployed.admin, changelog, max_message_bytes=SHARD_CHANGELOG.max_bytes + 4096)
    deployed.start(0)
    deployed.wait_open(0, times=2)
    settle(row, deployed, feeder)
    return row


def log_starts_beyond(deployed: Deployment, topic: str) -> Row:
    """Records that the shard has not applied are deleted while it is away."""
    row = Row(fault=f"the log of {topic} starts beyond what the shard contains", injected=1)
    people = [f"user-{number}" for number in range(50)]
    feeder = loaded(deployed, people)
    feeder.stop()
    row.events = feeder.total
    time.sleep(2)
    assert deployed.terminate(0) == 0
    name = deployed.prefix + topic
    producer = deployed.producer()
    for number in range(40):
        value = feeder.event(people[number % 50], f"unseen-{number}", {})
        producer.produce(name, key=people[number % 50], value=value, partition=0)
    producer.flush()
    low, high = _bounds(deployed, name)
    where = TopicPartition(name, 0, high - 10)
    for deleted in deployed.admin.delete_records([where]).values():
        deleted.result(10)
    deployed.start(0)
    said(row, wait_end(deployed, 0), EXIT_STATE, r"starts at \d+: up to 3\d records are missing")
    row.figures.append(seen("records deleted unseen", high - 10 - low, "at most"))
    return row


def _bounds(deployed: Deployment, topic: str) -> tuple[int, int]:
    reader = deployed._consumer("bounds")
    try:
        low, high = reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
    finally:
        reader.close()
    return low, high


def made_again(deployed: Deployment, topic: str) -> Row:
    """A topic is deleted and made again while its worker is away."""
    row = Row(fault=f"{topic} deleted and made again", injected=1)
    feeder = loaded(deployed, [f"user-{number}" for number in range(50)])
    feeder.stop()
    row.events = feeder.total
    time.sleep(2)
    assert deployed.terminate(0) == 0
    name = deployed.prefix + topic
    state = describe_topics(deployed.admin, [name])[name]
    deployed.admin.delete_topics([name])[name].result(10)
    wait_until(lambda: not describe_topics(deployed.admin, [name]), 10, "the topic is gone")
    own = ("max.message.bytes", "cleanup.policy", "delete.retention.ms", "min.insync.replicas")
    config = {key: state.config[key] for key in own}
    new = NewTopic(name, state.partitions, deployed.replication, config=config)
    deployed.admin.create_topics([new])[name].result(10)
    wait_until(lambda: describe_topics(deployed.admin, [name]), 10, "the topic is there")
    deployed.start(0)
    said(row, wait_end(deployed, 0), EXIT_STATE, f"topic {name} was deleted and made again")
    return row


def other_partition_count(deployed: Deployment, topic: str, partitions: int, cure: str) -> Row:
    """A topic has more partitions than it must have."""
    row = Row(fault=f"partition count of {topic} changed", injected=1)
    feeder = loaded(deployed, [f"user-{number}" for number in range(50)])
    feeder.stop()
    row.events = feeder.total
    assert deployed.terminate(0) == 0
    name = deployed.prefix + topic
    deployed.admin.create_partitions([NewPartitions(name, partitions)])[name].result(10)
    wait_until(
        lambda: describe_topics(deployed.admin, [name])[name].partitions == partitions,
        10,
        "there are more partitions",
    )
    deployed.start(0)
    said(row, wait_end(deployed, 0), EXIT_SETTING, cure)
    return row
