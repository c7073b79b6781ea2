"""The peers of the wave rows: bare loops that write what the worker writes, without thinking."""

import io
import struct
import time
from collections.abc import Sequence
from typing import Any

import fastavro
import msgspec
from confluent_kafka import Producer, TopicPartition

from schemas.avro_schemas import fingerprint, parsed_schema
from schemas.hashing import decision_id, partition_of
from schemas.topics import SEND_DECISIONS, SHARD_CHANGELOG
from streams.agents.state import CLOSE, ledger_key, timer_key
from streams.core.ledger import Entry, Ledger
from streams.core.profiles import Profile
from streams.kafka.cluster import Cluster
from streams.kafka.read import groupless_reader
from tests.bench.speed.stage import Stage
from tests.bench.speed.wave_work import CAMPAIGN, FEATURES, HOUR_MS, TEMPLATES

__all__ = ["PROFILES", "decide_without_thinking", "write_decisions"]

PROFILES = "profiles"
CHUNK = 500
ODDS = [1 / TEMPLATES] * TEMPLATES
ACTIONS = [f"template-{number}" for number in range(TEMPLATES)]
CONTEXT = bytes(4 * FEATURES)


class _Loop:
    def __init__(self, stage: Stage) -> None:
        at = stage.at
        self.partitions = at.users
        self.decisions = at.prefix + SEND_DECISIONS.name
        self.state = at.prefix + SHARD_CHANGELOG.name
        self.producer = Producer(
            {
                "bootstrap.servers": at.bootstrap,
                "transactional.id": f"{at.prefix}bare",
                "linger.ms": 1,
                "queue.buffering.max.messages": 500_000,
            }
        )
        self.producer.init_transactions(30)
        self._schema = parsed_schema("Decision")
        self._prefix = struct.pack(">bI", 0, fingerprint(self._schema))

    def decide(self, user: str, contact: str, partition: int) -> dict[str, Any]:
        now_ms = int(time.time() * 1000)
        decision = {
            "decision_id": decision_id(CAMPAIGN, 0, user),
            "campaign_id": CAMPAIGN,
            "campaign_version": 1,
            "wave": 0,
            "user_id": user,
            "action": "template-3",
            "channel": "email",
            "contact": contact,
            "reason": "policy",
            "propensity": 0.1,
            "policy_version": 0,
            "encoder_version": "columns-0123456789ab",
            "decided_at_ms": now_ms,
            "expires_at_ms": now_ms + HOUR_MS,
            "variables": {"subject": "Subject 3"},
        }
        out = io.BytesIO()
        out.write(self._prefix)
        fastavro.schemaless_writer(out, self._schema, decision)
        headers = [
            ("ce_specversion", b"1.0"),
            ("ce_type", b"groundswell.decision"),
            ("ce_source", b"/groundswell/shards/0"),
            ("ce_id", decision["decision_id"].encode()),
            ("content-type", b"application/avro"),
        ]
        self.producer.produce(
            self.decisions, out.getvalue(), user.encode(), partition=partition, headers=headers
        )
        return decision


def write_decisions(stage: Stage, users: Sequence[str]) -> float:
    """Write decisions alone, in transactions of a chunk; gives decisions a second."""
    loop = _Loop(stage)
    placed = [(user, partition_of(user, loop.partitions)) for user in users]
    began = time.perf_counter()
    for first in range(0, len(users), CHUNK):
        loop.producer.begin_transaction()
        for user, partition in placed[first : first + CHUNK]:
            loop.decide(user, f"{user}@example.com", partition)
            loop.producer.poll(0)
        loop.producer.commit_transaction(30)
    return len(users) / (time.perf_counter() - began)


def decide_without_thinking(stage: Stage, count: int) -> float:
    """Read profiles from their topic, write decisions and state; gives decisions a second."""
    loop = _Loop(stage)
    load = msgspec.msgpack.Decoder(Profile).decode
    dump = msgspec.msgpack.Encoder().encode
    reader = groupless_reader(Cluster(stage.at.bootstrap))
    topic = stage.at.prefix + PROFILES
    reader.assign([TopicPartition(topic, number, 0) for number in range(loop.partitions)])
    done = 0
    began: float | None = None
    try:
        while done < count:
            messages = reader.consume(CHUNK, 1.0)
            began = began or time.perf_counter()
            loop.producer.begin_transaction()
            opened: dict[int, list[tuple[str, str]]] = {}
            for message in messages:
                user, partition = message.key().decode(), message.partition()
                profile = load(message.value())
                decision = loop.decide(user, profile.contacts["email"], partition)
                _keep_open(loop, dump, user, decision, partition)
                opened.setdefault(partition, []).append((user, decision["decision_id"]))
                loop.producer.poll(0)
            for partition, decisions in opened.items():
                _set_timer(loop, dump, decisions, partition)
            loop.producer.commit_transaction(30)
            done += len(messages)
        assert began is not None
        return done / (time.perf_counter() - began)
    finally:
        reader.close()


def _keep_open(loop: _Loop, dump: Any, user: str, decision: dict[str, Any], partition: int) -> None:
    """Write what the worker keeps of an open decision: its user's ledger."""
    at_ms = decision["decided_at_ms"]
    entry = Entry(
        decision_id=decision["decision_id"],
        campaign_id=CAMPAIGN,
        wave=0,
        action=decision["action"],
        reason="policy",
        propensity=0.1,
        propensity_kind="drawn",
        actions=ACTIONS,
        probabilities=ODDS,
        context=CONTEXT,
        decided_at_ms=at_ms,
        policy_version=0,
        encoder_version=decision["encoder_version"],
        channel="email",
    )
    ledger = dump(Ledger(entries=[entry], sends=[at_ms]))
    loop.producer.produce(loop.state, ledger, ledger_key(user), partition=partition)


def _set_timer(
    loop: _Loop, dump: Any, decisions: Sequence[tuple[str, str]], partition: int
) -> None:
    """Write the one timer of decisions that were made together."""
    first, *others = decisions
    key = timer_key(int(time.time() * 1000), CLOSE, *first)
    loop.producer.produce(loop.state, dump(others), key, partition=partition)
