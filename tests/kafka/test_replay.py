"""A log replayed through the topics: the same snapshot again, and nothing closed early."""

import csv
import dataclasses
import gzip
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import pytest
import typer
from typer.testing import CliRunner

from schemas.errors import TopicError
from schemas.learning import LearningExample, PolicySnapshot
from schemas.records import UserEvent
from schemas.topics import LEARNING_EXAMPLES, POLICY_SNAPSHOTS, SEND_DECISIONS, USER_EVENTS
from schemas.wire import Codec
from streams.commands.log_mapping_file import read_mapping
from streams.commands.replay import replay
from streams.kafka.cluster import Cluster
from streams.kafka.read import read_all
from streams.simulation.log_deployment import Deployment
from streams.simulation.log_feed import Feed, Prepared, Replayed, prepare

MEN = Path(__file__).parents[1] / "data" / "obd_men"
ROOT = Path(__file__).parents[2]
CODEC = Codec()


@pytest.fixture(scope="module")
def men(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A sixth of the men's log with all of its clicks: years old, in order of time."""
    path = tmp_path_factory.mktemp("men") / "part.csv"
    with (
        gzip.open(MEN / "random.csv.gz", "rt", newline="") as whole,
        path.open("w", newline="") as part,
    ):
        rows = csv.DictReader(whole)
        assert rows.fieldnames is not None
        writer = csv.DictWriter(part, rows.fieldnames)
        writer.writeheader()
        writer.writerows(
            row for number, row in enumerate(rows) if number % 6 == 0 or row["click"] == "1"
        )
    return prepare(path, read_mapping(MEN / "mapping.yaml"))


class Workers:
    """Workers of a deployment as processes."""

    def __init__(self, deployment: Deployment, directory: Path, **settings: str) -> None:
        self._deployment = deployment
        self._directory = directory
        self._settings = settings
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        number = len(self._processes)
        env = self._deployment.worker_env(self._directory / f"worker-{number}")
        with (self._directory / f"worker-{number}.log").open("wb") as log:
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "streams", "worker"],
                    env={**os.environ, **env, "GROUNDSWELL_SESSION_TIMEOUT_S": "6"}
                    | self._settings,
                    cwd=ROOT,
                    stdout=log,
                    stderr=log,
                )
            )

    def kill(self) -> None:
        self._processes[-1].send_signal(signal.SIGKILL)
        self._processes[-1].wait(10)

    def check(self) -> None:
        code = self._processes[-1].poll()
        assert code is None, (
            self._directory / f"worker-{len(self._processes) - 1}.log"
        ).read_text()[-3000:]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait(10)


def replayed(
    deployment: Deployment,
    prepared: Prepared,
    directory: Path,
    *,
    block: int,
    on_block: Callable[[Workers, int], None] = lambda _workers, _fed: None,
    **settings: str,
) -> Replayed:
    directory.mkdir()
    deployment.make()
    with Workers(deployment, directory, **settings) as workers:
        feed = Feed(
            deployment,
            prepared,
            alive=workers.check,
            progress=lambda _what, fed: on_block(workers, fed),
            block=block,
        )
        feed.apply_campaign()
        workers.start()
        return feed.run()


def records(deployment: Deployment, topic) -> list:
    name = deployment.prefix + topic.name
    return [
        CODEC.decode(record.value, topic.record)
        for record in read_all(deployment.cluster, name)
        if record.value is not None
    ]


def test_a_log_replayed_twice_gives_the_same_snapshot_through_a_kill_and_closes_nothing_early(
    kafka, namespace, men, tmp_path
):
    calm = Deployment(cluster=Cluster(kafka.bootstrap), prefix=f"{namespace}calm-")
    hasty = Deployment(cluster=Cluster(kafka.bootstrap), prefix=f"{namespace}hasty-")
    killed = []

    def kill_once(workers: Workers, fed: int) -> None:
        if fed and not killed:
            killed.append(fed)
            workers.kill()
            workers.start()

    with ThreadPoolExecutor(2) as pool:
        running = [
            pool.submit(replayed, calm, men, tmp_path / "calm", block=700),
            pool.submit(
                replayed,
                hasty,
                men,
                tmp_path / "hasty",
                block=500,
                on_block=kill_once,
                GROUNDSWELL_BATCH_SIZE="37",
                GROUNDSWELL_COMMIT_INTERVAL_S="0",
                GROUNDSWELL_INSTANCE="same",  # the next one takes its place at once
            ),
        ]
        first, second = (run.result() for run in running)
    assert_exact(calm, men, first)
    assert_exact(hasty, men, second)
    assert killed == [500]
    assert second.learned.state == first.learned.state
    # The time of a snapshot is that of its shard when it was made: how far its inputs had come.
    plain = [
        dataclasses.replace(each.learned, offsets={}, created_at_ms=0) for each in (first, second)
    ]
    assert plain[0] == plain[1]
    in_order = [sorted(r.held_out, key=lambda e: e.decision_id) for r in (first, second)]
    assert in_order[0] == in_order[1]


def assert_exact(deployment: Deployment, men: Prepared, got: Replayed) -> None:
    """Each outcome was closed once, at its due time, with its reward; the first part learned."""
    summary, window_ms = men.summary, men.mapping.attribution_window_ms
    clicked = {row.number: bool(row.rewards) for row in men.reader.rows()}
    examples: list[LearningExample] = records(deployment, LEARNING_EXAMPLES)
    assert len({example.decision_id for example in examples}) == len(examples) == summary.rows
    assert all(example.previous_reward is None for example in examples)
    assert all(e.closed_at_ms == e.decided_at_ms + window_ms for e in examples)
    assert sum(example.reward for example in examples) == sum(clicked.values()) == 46
    assert all(e.learn == (e.decided_at_ms < summary.split_at_ms) for e in examples)
    assert len(got.held_out) == summary.held_out > 0
    assert {example.wave for example in got.held_out} == {1}

    versions = {
        s.version: s
        for s in records(deployment, POLICY_SNAPSHOTS)
        if isinstance(s, PolicySnapshot) and s.wave is None
    }
    assert sorted(versions) == [0, 1, 2]
    assert got.learned == versions[1]
    assert got.learned.examples == summary.learned
    assert got.learned.feedback == dict(summary.learned_feedback)
    assert versions[1].state != versions[0].state
    assert versions[2].state == versions[1].state, "something of the held-out part was learned"
    assert versions[2].feedback == dict(summary.feedback)

    events: list[UserEvent] = records(deployment, USER_EVENTS)
    assert sum(event.type == "impression" for event in events) == summary.rows
    assert records(deployment, SEND_DECISIONS) == []


MAPPING = """
campaign: mails
time: {column: sent, unit: s}
user: person
action: mail
rewards:
  - {column: clicked, kind: click, time: {column: clicked_at, unit: s}}
  - {column: spent, kind: purchase, amount: true, weight: 0.1}
propensity: unknown
attributes: {age: number}
context: [{attribute: age, center: 40, scale: 20}]
attribution_window: 1h
"""


def test_the_command_says_why_a_log_without_propensities_cannot_value_and_leaves_nothing_behind(
    kafka, namespace, tmp_path
):
    log, mapping = tmp_path / "mails.csv", tmp_path / "mails.yaml"
    mapping.write_text(MAPPING)
    rows = [
        f"{1_500_000_000 + 60 * n},user-{n % 50},{('hello', 'offer')[n % 2]},{int(n % 3 == 0)},"
        f"{1_500_000_600 + 60 * n},{'9.5' if n % 10 == 0 else ''},{20 + n % 40}"
        for n in range(300)
    ]
    rows[7], rows[8] = rows[8], rows[7]
    log.write_text("\n".join(["sent,person,mail,clicked,clicked_at,spent,age", *rows, "", ""]))
    app = typer.Typer()
    app.command()(replay)
    given = [str(log), "--mapping", str(mapping), "--bootstrap", kafka.bootstrap]
    given += ["--prefix", namespace, "--out", str(tmp_path / "out")]
    env = {"GROUNDSWELL_REPLICATION": "1", "GROUNDSWELL_MIN_INSYNC": "1"}
    result = CliRunner().invoke(app, given, env=env, catch_exceptions=False)
    said = " ".join(result.output.split())
    assert "not in order of time (first at line 10): it was sorted" in said
    assert "100 click, 30 purchase" in said
    assert "70 click, 21 purchase" in said
    assert "propensities │ unknown" in said
    assert "cannot be valued: the propensities of the log are unknown" in said
    assert "IPS │" not in said
    assert (tmp_path / "out" / "mails.json").exists()
    topics = kafka.admin.list_topics(timeout=10).topics
    assert not [topic for topic in topics if topic.startswith(namespace)]


def test_topics_of_another_replay_are_not_fed_again(kafka, namespace):
    deployment = Deployment(cluster=Cluster(kafka.bootstrap), prefix=namespace)
    deployment.make()
    with pytest.raises(TopicError, match="--replace"):
        deployment.make()
