"""The commands of encoders against a real Kafka: from a key to a rollback."""

import dataclasses
import json
import stat
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import structlog
from confluent_kafka import KafkaException, Producer

from schemas.encoder_releases import EncoderRelease, EncoderReleases
from schemas.errors import ReleaseError
from schemas.hashing import partition_of
from schemas.learning import LearningExample
from schemas.manifest import Manifest
from schemas.records import UserEvent
from schemas.topics import ENCODER_RELEASES, LEARNING_EXAMPLES, USER_EVENTS
from schemas.wire import Codec
from streams.__main__ import main
from streams.core import releases as step
from streams.kafka.cluster import Cluster
from streams.kafka.read import read_all
from streams.kafka.release_client import ReleaseClient
from streams.releases.fetch import Fetcher
from streams.releases.offered import Offered, Standing
from tests.kafka.harness import wait_until

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
    stored = sorted((tmp_path / "store").iterdir())
    other = dataclasses.replace(newer, created_at_ms=newer.created_at_ms + 1)
    (second / "manifest.json").write_bytes(other.to_bytes())
    code, _, err = run("encoder", "publish", second, "--key", key)
    assert code == 1
    assert "train under a new version" in err
    assert sorted((tmp_path / "store").iterdir()) == stored

    client = ReleaseClient(Cluster(loop), namespace, Codec())
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
    keys = [record.key for record in read_all(Cluster(loop), namespace + ENCODER_RELEASES.name)]
    assert set(keys) == {b"people"}


def release(version: str) -> EncoderRelease:
    return EncoderRelease(
        version=version, sha256="0" * 64, model_bytes=1, signer="s", published_at_ms=0
    )


class Worker:
    """What a worker makes of the announcements; whatever is announced can be loaded."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        structlog.reset_defaults()  # its thread logs, and a command's stream is closed by then
        self._bootstrap, self._topic = bootstrap, prefix + ENCODER_RELEASES.name
        self._offered = Offered(lambda name, found, **_: object())  # type: ignore[arg-type,return-value]
        self._offered.start()

    def standing(self) -> Standing:
        """How releases stand after all that is announced now, once they are loaded."""
        wanted = frozenset[str]()
        for record in read_all(Cluster(self._bootstrap), self._topic):
            said = Codec().decode(record.value, EncoderReleases)
            self._offered.take(said.name, said)
            roles = (said.live, said.shadow, said.previous)
            wanted = frozenset(f"people@{version}" for version in roles if version is not None)
        wait_until(lambda: wanted <= self._offered.loaded, 20, f"{wanted} are loaded")
        return self._offered.standing("people")

    def stop(self) -> None:
        self._offered.stop()


@pytest.fixture
def workers(loop, namespace):
    """Workers as they are asked for."""
    started = []

    def start() -> Worker:
        started.append(Worker(loop, namespace))
        return started[-1]

    yield start
    for worker in started:
        worker.stop()


def test_of_two_who_change_a_step_at_once_the_firsts_stands_and_the_other_is_told(
    loop, namespace, workers
):
    client = ReleaseClient(Cluster(loop), namespace, Codec())
    first = step.publish(None, "people", release("1.0.0"), AT_MS)
    client.write(first)
    running = workers()
    running.standing()
    theirs = step.promote(first, "1.0.0", AT_MS)
    mine = step.publish(first, "people", release("1.1.0"), AT_MS + 1)
    client.write(theirs)
    with pytest.raises(ReleaseError, match="someone else at the same time"):
        client.write(mine)
    assert client.named("people") == theirs
    for worker in (running, workers()):
        assert worker.standing() == Standing(live="people@1.0.0")
    # What compaction may take away is not what stands.
    topic = namespace + ENCODER_RELEASES.name
    records = [record.value for record in read_all(Cluster(loop), topic)]
    assert [Codec().decode(value, EncoderReleases) for value in records] == [first, theirs]


def test_who_took_a_step_finds_it_at_once(loop, namespace):
    client = ReleaseClient(Cluster(loop), namespace, Codec())
    stands = None
    for number in range(10):
        stands = step.publish(stands, "people", release(f"1.{number}.0"), AT_MS + number)
        client.write(stands)
        assert client.named("people") == stands


def test_races_round_after_round_have_one_winner_each_whom_everybody_believes(
    loop, namespace, workers
):
    versions = [f"1.{number}.0" for number in range(4)]
    client = ReleaseClient(Cluster(loop), namespace, Codec())
    stands = None
    for version in versions:
        stands = step.publish(stands, "people", release(version), AT_MS)
        client.write(stands)
    assert stands is not None
    running = workers()
    for number in range(5):
        before, start = client.named("people"), threading.Barrier(len(versions))
        assert before.step == stands.step

        def change(version, before=before, start=start, number=number):
            after = step.shadow(before, version, AT_MS + number)
            start.wait(30)
            try:
                ReleaseClient(Cluster(loop), namespace, Codec()).write(after)
            except ReleaseError as error:
                assert "someone else at the same time" in str(error)  # noqa: PT017
                return None
            return after

        with ThreadPoolExecutor(len(versions)) as racers:
            won = [after for after in racers.map(change, versions) if after is not None]
        assert len(won) == 1
        [stands] = won
        assert client.named("people") == stands
        for worker in (running, workers()):
            assert worker.standing().shadow == f"people@{stands.shadow}"


def test_an_announcer_that_stopped_halfway_holds_up_nobody(loop, namespace):
    topic = namespace + ENCODER_RELEASES.name
    client = ReleaseClient(Cluster(loop), namespace, Codec())
    first = step.publish(None, "people", release("1.0.0"), AT_MS)
    client.write(first)
    stopped = announcer(loop, f"{topic}/people")
    stopped.produce(topic, b"half a change", b"people")
    stopped.flush(10)
    client.write(step.promote(first, "1.0.0", AT_MS))
    assert client.named("people").live == "1.0.0"
    with pytest.raises(KafkaException):
        stopped.commit_transaction(10)
    assert client.named("people").live == "1.0.0"


def test_an_announcer_sees_what_stands_behind_anothers_open_transaction(loop, namespace):
    topic = namespace + ENCODER_RELEASES.name
    client = ReleaseClient(Cluster(loop), namespace, Codec())
    other = announcer(loop, "another's")
    animals = step.publish(None, "animals", release("1.0.0"), AT_MS)
    other.produce(topic, Codec().encode(topic, animals), b"animals")
    other.flush(10)
    first = step.publish(None, "people", release("1.0.0"), AT_MS)
    plain = Producer({"bootstrap.servers": loop, "log_level": 0})
    plain.produce(topic, Codec().encode(topic, first), b"people")
    plain.flush(10)
    later = threading.Timer(1.5, other.commit_transaction, (10,))
    later.start()
    client.write(step.promote(first, "1.0.0", AT_MS))
    later.join()
    assert client.named("people").live == "1.0.0"


def announcer(bootstrap: str, name: str) -> Producer:
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": name, "log_level": 0})
    producer.init_transactions(30)
    producer.begin_transaction()
    return producer


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
