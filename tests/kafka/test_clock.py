"""The clock of the windows waits for feedback that ingest has still to read."""

import time
from pathlib import Path

import pytest

from schemas.ids import NO_SEND
from schemas.records import Reward
from schemas.topics import LEARNING_EXAMPLES
from tests.kafka.harness import FEEDBACK, campaign, deployment, wait_until

USERS = [f"user-{number:05d}" for number in range(600)]


@pytest.mark.timeout(240)
def test_feedback_that_came_while_the_workers_were_away_is_in_the_first_reward(
    kafka, namespace, tmp_path: Path
):
    """Without a correction: no window closes before ingest has read what there was."""
    settings = {"GROUNDSWELL_BATCH_SIZE": "20"}  # ingest takes a while
    with deployment(kafka, namespace, tmp_path, settings=settings) as loop:
        loop.start(0)
        loop.wait_open(0)
        loop.import_people(USERS)
        loop.wait_profiles(len(USERS))
        loop.apply(campaign(waves=1, attribution_window_ms=20_000, allowed_lateness_ms=1000))
        wait_until(lambda: len(loop.decisions()) == len(USERS), 60, "all are decided")
        loop.kill(0)
        sent = [decision for decision in loop.decisions() if decision.action != NO_SEND]
        producer = loop.producer()
        noise = [f"unknown-{number}" for number in range(4000)]  # in front of what counts
        for user in noise:
            click = Reward(user_id=user, kind="click", occurred_at_ms=sent[0].decided_at_ms)
            producer.produce(loop.prefix + FEEDBACK, key=user, value=loop.codec.encode("", click))
        for decision in sent:
            click = Reward(
                user_id=decision.user_id,
                kind="click",
                occurred_at_ms=decision.decided_at_ms + 100,
                decision_id=decision.decision_id,
            )
            value = loop.codec.encode("", click)
            producer.produce(loop.prefix + FEEDBACK, key=decision.user_id, value=value)
        producer.flush()
        last_ms = max(decision.decided_at_ms for decision in sent)
        wait_until(lambda: time.time() * 1000 > last_ms + 25_000, 60, "all windows are over")
        loop.start(0)
        wait_until(
            lambda: len(loop.records(LEARNING_EXAMPLES)) >= len(sent), 90, "all windows are closed"
        )
        examples = loop.records(LEARNING_EXAMPLES)
        assert [example.reward for example in examples] == [1.0] * len(sent)
        assert {example.previous_reward for example in examples} == {None}
