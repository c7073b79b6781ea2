"""The demo as a user runs it, with a Kafka of its own; and that nothing of it is left behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import NewTopic

from schemas.hashing import decision_id
from schemas.records import Decision, Reward, UserEvent
from schemas.wire import Codec
from streams.commands.campaign_file import read_campaign
from streams.kafka.cluster import Cluster
from streams.kafka.read import read_all
from streams.simulation import company_process
from streams.simulation.people import campaign_features
from streams.simulation.sample_release import NAME, announced
from streams.simulation.templates import BASELINE_TEMPLATE, TEMPLATES
from streams.simulation.truth import REWARD_WEIGHTS
from streams.simulation.world import Company

YAML = Path(company_process.__file__).parent / "demo_campaign.yaml"


def processes_of(folder: Path) -> list[str]:
    """Give the command lines of processes that name a folder, in arguments or environment."""
    found, mark = [], str(folder).encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            if mark in command or mark in (entry / "environ").read_bytes():
                found.append(command.replace(b"\0", b" ").decode())
        except OSError:
            continue
    return [command for command in found if command]  # a zombie has none


def wait_until(holds: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


class Demo:
    """A demo that runs, and what it has printed so far."""

    def __init__(self, folder: Path, *args: str) -> None:
        self.out, self.tmp = folder / "out", folder / "tmp"
        self.tmp.mkdir()
        self.printed = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streams", "demo", "--out", str(self.out), *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(self.tmp), "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed += line.decode()

    def wait_for(self, text: str) -> None:
        wait_until(
            lambda: text in self.printed or self.process.poll() is not None, 120, f"{text!r}"
        )
        assert text in self.printed, self.printed

    def end(self, seconds: float) -> int:
        code = self.process.wait(seconds)
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    running: list[Demo] = []

    def start(*args: str) -> Demo:
        running.append(Demo(tmp_path, *args))
        return running[-1]

    yield start
    for one in running:
        if one.process.poll() is None:
            one.process.kill()
            one.end(10)


def test_campaign_of_the_demo_is_the_simulated_company_s():
    campaign = read_campaign(YAML, 0)
    assert campaign.templates == list(TEMPLATES)
    assert campaign.baseline_action == BASELINE_TEMPLATE
    assert campaign.reward_weights == dict(REWARD_WEIGHTS)
    assert (campaign.holdout, campaign.baseline_share, campaign.waves) == (0.05, 0.1, 6)
    assert [(f.attribute, f.one_of) for f in campaign.context] == [
        (f["attribute"], f.get("one_of", [])) for f in campaign_features()
    ]
    numbers = [f for f in campaign_features() if "scale" in f]
    assert [(f.center, f.scale) for f in campaign.context if f.scale != 1.0] == [
        (f["center"], f["scale"]) for f in numbers
    ]


@pytest.mark.timeout(200)
def test_two_waves_are_decided_learned_from_and_told_and_nothing_is_left(demo, tmp_path):
    run = demo("--people", "3000", "--waves", "2", "--seed", "1")
    assert run.end(150) == 0, run.printed
    rows = json.loads((run.out / "result.json").read_text())
    figures = {(row["name"], row["peer"]): row for row in rows}
    for wave in (1, 2):
        row = figures[f"wave {wave}, policy, expected", "oracle, expected"]
        assert 0 < row["value"] < row["peer_value"]
        assert row["ratio"] == pytest.approx(row["value"] / row["peer_value"])
        assert f"{row['value']:.4f}" in run.printed
    first, last = (
        figures[f"wave {n}, policy, expected", "uniform, expected"]["ratio"] for n in (1, 2)
    )
    assert first == pytest.approx(1.0, abs=0.05)  # it knew nobody
    assert last > 1.2  # and learned
    credited = figures["feedback credited", "feedback sent"]
    assert 0.97 <= credited["ratio"] <= 1.0  # a machine that is too busy misses some windows
    assert credited["peer_value"] > 100
    assert figures["decisions or outcomes committed twice", None]["holds"]
    assert figures["propensities that are not the logged probability", None]["holds"]
    assert "Reward per send, by wave" in run.printed
    assert (run.out / "report.html").exists()
    assert (run.out / "worker-1.log").exists()
    assert list(run.tmp.iterdir()) == []
    assert processes_of(tmp_path) == []


@pytest.mark.timeout(200)
def test_the_demo_runs_with_the_sample_encoder(demo):
    """No wave begins before the release is live in the workers, and each is decided with it."""
    run = demo("--people", "3000", "--waves", "2", "--seed", "1", "--encoder")
    assert run.end(150) == 0, run.printed
    assert "encoder is released" in run.printed
    log = (run.out / "worker-1.log").read_text()
    assert f'"live": "{NAME}@{announced().version}"' in log
    assert "encoder_refused" not in log
    rows = json.loads((run.out / "result.json").read_text())
    last = next(
        row
        for row in rows
        if (row["name"], row["peer"]) == ("wave 2, policy, expected", "uniform, expected")
    )
    assert last["ratio"] > 1.1  # it learned under z


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("number", "after", "code"),
    [
        (signal.SIGINT, "campaign is applied", 130),
        (signal.SIGTERM, "topics are made", 143),
        (signal.SIGINT, "", 130),
    ],
)
def test_demo_that_is_interrupted_ends_all_that_it_started(demo, tmp_path, number, after, code):
    run = demo("--people", "1000", "--waves", "2")
    if after:
        run.wait_for(after)
    else:
        wait_until(lambda: any("kafka.Kafka" in c for c in processes_of(tmp_path)), 30, "a broker")
    run.process.send_signal(number)
    assert run.end(30) == code, run.printed
    assert processes_of(tmp_path) == []
    assert list(run.tmp.iterdir()) == []
    assert "Traceback" not in run.printed


@pytest.mark.timeout(200)
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_demo_that_is_killed_leaves_no_process_behind(demo, tmp_path):
    run = demo("--people", "1000", "--waves", "2")
    run.wait_for("topics are made")
    run.process.kill()
    run.end(10)
    wait_until(lambda: processes_of(tmp_path) == [], 10, "all processes ended")


@pytest.mark.timeout(200)
def test_worker_that_dies_ends_the_demo_with_one_line(demo, tmp_path):
    run = demo("--people", "1000", "--waves", "2")
    run.wait_for("campaign is applied")
    worker = next(c for c in Path("/proc").iterdir() if is_worker(c, run.tmp))
    os.kill(int(worker.name), signal.SIGKILL)
    assert run.end(30) == 1
    assert "worker-1 ended with exit code -9" in run.printed
    assert "Traceback" not in run.printed
    assert processes_of(tmp_path) == []


def is_worker(entry: Path, folder: Path) -> bool:
    try:
        return (
            entry.name.isdigit()
            and (entry / "cmdline").read_bytes().endswith(b"-m\0streams\0worker\0")
            and str(folder).encode() in (entry / "environ").read_bytes()
        )
    except OSError:
        return False


def test_company_answers_committed_decisions_and_posts_as_librdkafka_partitions(
    kafka, namespace, tmp_path
):
    events, feedback, decisions = (
        namespace + name for name in ("company-events", "company-feedback", "send-decisions")
    )
    for made in kafka.admin.create_topics(
        [NewTopic(events, 3, 1), NewTopic(feedback, 2, 1), NewTopic(decisions, 4, 1)]
    ).values():
        made.result()
    company = Company.create(1, 1_000)
    committed = [decision(company, user) for user in range(0, 1_000, 2)]
    aborted = [decision(company, user) for user in range(1, 1_000, 2)]
    send(kafka, decisions, aborted, commit=False)
    send(kafka, decisions, committed, commit=True)
    truth = tmp_path / "truth.json"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "streams.simulation.company_process"),
            *("--bootstrap", kafka.bootstrap, "--seed", "1", "--people", "1000"),
            *("--truth", str(truth), "--events-topic", events, "--feedback-topic", feedback),
            *("--decisions-topic", decisions, "--group", namespace + "sender"),
        ]
    )
    try:
        group = lambda: positions(kafka, namespace + "sender", decisions)  # noqa: E731
        wait_until(lambda: sum(group()) >= 500, 30, "all decisions are answered")
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    told = json.loads(truth.read_text())
    codec = Codec()
    cluster = Cluster(kafka.bootstrap)
    posted = [(r, codec.decode(r.value, Reward)) for r in read_all(cluster, feedback)]
    answered = {d.decision_id for d in committed}
    assert told["notifications"] == {"0": 500}
    assert posted
    assert all(reward.decision_id in answered for _, reward in posted)
    assert len({reward.reward_id for _, reward in posted}) == sum(told["feedback"]["0"].values())
    assert len(posted) == sum(told["feedback"]["0"].values()) + told["duplicates"]
    imported = [(r, codec.decode(r.value, UserEvent)) for r in read_all(cluster, events)]
    assert len({event.user_id for _, event in imported if event.attributes}) == 1_000
    for record, _ in posted:
        assert record.partition == crc32_partition(record.key, 2)
    for record, _ in imported:
        assert record.partition == crc32_partition(record.key, 3)


def crc32_partition(key: bytes, partitions: int) -> int:
    import zlib

    return zlib.crc32(key) % partitions


def decision(company: Company, user: int) -> Decision:
    user_id = str(company.people.ids[user])
    return Decision(
        decision_id=decision_id("spring", 0, user_id),
        campaign_id="spring",
        campaign_version=1,
        wave=0,
        user_id=user_id,
        action=company.templates[user % 8].id,
        reason="policy",
        propensity=0.125,
        policy_version=0,
        encoder_version="columns",
        decided_at_ms=int(time.time() * 1000),
        expires_at_ms=int(time.time() * 1000) + 60_000,
    )


def send(kafka, topic: str, decisions: list[Decision], *, commit: bool) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic})
    producer.init_transactions(30)
    producer.begin_transaction()
    for one in decisions:
        producer.produce(topic, key=one.user_id, value=Codec().encode(topic, one))
    producer.flush(30)
    (producer.commit_transaction if commit else producer.abort_transaction)(30)


def positions(kafka, group: str, topic: str) -> list[int]:
    reader = Consumer(
        {"bootstrap.servers": kafka.bootstrap, "group.id": group, "enable.auto.commit": False}
    )
    try:
        found = reader.committed([TopicPartition(topic, n) for n in range(4)], timeout=10)
        return [max(one.offset, 0) for one in found]
    finally:
        reader.close()
