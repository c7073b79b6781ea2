"""The embedded broker is a real Kafka that starts, keeps its data, and leaves nothing behind."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from typer.testing import CliRunner

from schemas.errors import BrokerError
from streams.commands.broker import app
from streams.kafka import broker as broker_module
from streams.kafka import broker_jars
from streams.kafka.broker import EmbeddedKafka, running
from streams.kafka.broker_config import free_ports
from streams.kafka.broker_node import Jvm, last_words
from streams.kafka.cluster import Cluster
from streams.kafka.reach import require_broker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka(tmp_path / "broker", die_with_parent=True) as started:
        yield started


def create(bootstrap: str, topic: str, partitions: int = 1) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(topic, partitions)])[topic].result(20)


def produce(bootstrap: str, topic: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "log_level": 0})
    failures: list[object] = []
    for value in values:
        producer.produce(topic, value, on_delivery=lambda e, _: failures.append(e) if e else None)
    assert producer.flush(30) == 0
    assert failures == []


def consume(bootstrap: str, topic: str, count: int) -> list[bytes]:
    """Read `count` committed records, or what has come after 20 s."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"{topic}-readers",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "log_level": 0,
        },
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    values: list[bytes] = []
    deadline = time.monotonic() + 20
    while len(values) < count and time.monotonic() < deadline:
        values += [m.value() for m in consumer.consume(100, 0.2) if not m.error()]
    consumer.close()
    return values


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_shared_kafka_gives_back_what_was_produced(kafka, namespace):
    topic = f"{namespace}events"
    create(kafka.bootstrap, topic)
    produce(kafka.bootstrap, topic, [b"a", b"b"])
    assert consume(kafka.bootstrap, topic, 2) == [b"a", b"b"]


def test_an_aborted_transaction_is_never_read_and_a_committed_one_is(kafka, namespace):
    topic = f"{namespace}events"
    create(kafka.bootstrap, topic)
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap, "transactional.id": topic, "log_level": 0},
    )
    producer.init_transactions(20)
    for value, end in ((b"no", producer.abort_transaction), (b"yes", producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce(topic, value)
        producer.flush(10)
        end(10)
    assert consume(kafka.bootstrap, topic, 1) == [b"yes"]


def test_a_second_owner_of_a_transactional_id_fences_the_first(kafka, namespace):
    topic = f"{namespace}events"
    create(kafka.bootstrap, topic)
    settings = {"bootstrap.servers": kafka.bootstrap, "transactional.id": topic, "log_level": 0}
    first = Producer(settings)
    first.init_transactions(20)
    first.begin_transaction()
    first.produce(topic, b"mine")
    first.flush(10)
    Producer(settings).init_transactions(20)
    with pytest.raises(KafkaException) as fenced:
        first.commit_transaction(10)
    assert fenced.value.args[0].fatal()


def test_a_topic_that_nobody_created_does_not_appear(kafka, namespace):
    kafka.admin.list_topics(topic=f"{namespace}never", timeout=10)
    assert f"{namespace}never" not in kafka.admin.list_topics(timeout=10).topics


def test_data_survive_a_stop_and_a_kill_and_no_process_stays(broker):
    create(broker.bootstrap, "kept")
    produce(broker.bootstrap, "kept", [b"1"])
    pid = broker.pids[1]
    broker.stop()
    assert not alive(pid)
    assert running(broker.data_dir) is None
    broker.start()
    produce(broker.bootstrap, "kept", [b"2"])
    broker.kill_node(1)
    assert broker.pids == {}
    broker.start_node(1)
    assert consume(broker.bootstrap, "kept", 2) == [b"1", b"2"]


def test_wipe_is_refused_while_it_runs_and_removes_everything_after(broker, tmp_path):
    with pytest.raises(BrokerError, match=r"stop it before you wipe"):
        broker.wipe()
    with pytest.raises(BrokerError, match=r"a broker runs on .* already"):
        EmbeddedKafka(broker.data_dir).start()
    # Nor when nothing but the lock tells: a second broker would destroy the first one's metadata.
    state = broker.data_dir / broker_module.STATE_FILE
    state.rename(tmp_path / "elsewhere")
    for attempt in (broker.wipe, EmbeddedKafka(broker.data_dir).start):
        with pytest.raises(BrokerError, match=r"another broker has .*node-1 open"):
            attempt()
    assert broker.pids
    require_broker(Cluster(broker.bootstrap))
    broker.stop()
    broker.wipe()
    assert not broker.data_dir.exists()


def test_wipe_is_refused_on_a_directory_that_is_not_a_brokers(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(BrokerError, match=r"thesis\.tex, which no broker made"):
        broker_module.wipe(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_a_port_in_use_is_said_in_one_line_that_names_it(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(BrokerError) as refused:
            EmbeddedKafka(tmp_path / "broker", port=port).start()
    assert str(refused.value) == (
        f"port {port} on 127.0.0.1 is in use: stop what holds it, or choose another port"
    )
    assert running(tmp_path / "broker") is None


def test_a_broker_that_cannot_start_says_its_last_relevant_line(tmp_path):
    with pytest.raises(BrokerError, match=r"exit code 1: .*heap.*: give its Java another heap_mb$"):
        EmbeddedKafka(tmp_path / "broker", jvm=Jvm(heap_mb=1, flags=())).start()


def test_a_directory_made_for_one_node_is_not_started_as_three(tmp_path):
    meta = tmp_path / "node-1" / "data" / "meta.properties"
    meta.parent.mkdir(parents=True)
    meta.touch()
    with pytest.raises(BrokerError, match=r"was made for 1 node\(s\), not 3"):
        EmbeddedKafka(tmp_path, nodes=3).start()


def test_the_cause_of_a_failed_start_is_found_among_what_follows_it(tmp_path):
    log = tmp_path / "broker.log"
    old = "Caused by: an older start\n"
    log.write_text(
        f"{old}2026-01-01 ERROR KafkaServer: fatal\njava.net.BindException: Address in use\n"
        "\tat sun.nio\n2026-01-01 INFO KafkaServer: shut down\n",
    )
    assert (
        last_words(log, len(old), tmp_path / "console.log")
        == "java.net.BindException: Address in use"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child to its parent")
def test_a_broker_dies_with_its_parent_when_asked(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from streams.kafka.broker import *\n"
        "kafka = EmbeddedKafka(Path(sys.argv[1]), die_with_parent=True); kafka.start()\n"
        "print(kafka.pids[1], flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "broker")],
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        lines = iter(parent.stdout.readline, "")
        pid = next(int(line) for line in lines if line.strip().isdigit())
        assert os.getsid(pid) == pid  # Ctrl-C in the parent's terminal does not reach it
        parent.kill()
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(pid)


def test_the_command_starts_says_stops_and_wipes(tmp_path):
    data = tmp_path / "broker"
    port = free_ports(1)[0]

    def command(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, [*words, "--data", str(data)])
        return result.exit_code, result.output

    try:
        assert command("start", "--port", str(port))[0] == 0
        found = running(data)
        assert found is not None
        where = f"127.0.0.1:{port} (pid {found.pids[0]})"
        # A broker left by one process is found, and stopped, by another.
        other = [sys.executable, "-c", "from streams.commands.broker import app; app()"]
        status = subprocess.run(
            [*other, "status", "--data", str(data)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert status.stdout == f"running at {where}, data in {data}\n"
        assert command("start", "--port", str(port)) == (0, f"already running at {where}\n")
        code, said = command("start", "--port", str(port + 1))
        assert (code, said.count("\n")) == (1, 1)
        assert f"runs at 127.0.0.1:{port}, not on port {port + 1}" in said
        code, said = command("wipe")
        assert (code, said.count("\n")) == (1, 1)
        assert "stop it before you wipe" in said
        assert command("stop") == (0, f"stopped {where}\n")
        assert not alive(found.pids[0])
    finally:
        broker_module.stop(data)
    assert command("stop") == (0, "not running\n")
    assert command("status")[0] == 1
    assert command("wipe") == (0, f"wiped {data}\n")
    assert not data.exists()


def test_a_process_that_only_has_the_brokers_pid_is_left_alone(tmp_path):
    with subprocess.Popen(["sleep", "30"]) as bystander:
        state = {"bootstrap": "127.0.0.1:9", "pids": [bystander.pid]}
        (tmp_path / "broker.json").write_text(json.dumps(state))
        assert running(tmp_path) is None
        assert broker_module.stop(tmp_path) is None
        assert bystander.poll() is None
        bystander.send_signal(signal.SIGKILL)


def test_every_command_shows_an_example():
    for name in ("start", "stop", "status", "wipe"):
        shown = CliRunner().invoke(app, [name, "--help"], env={"NO_COLOR": "1"}).output
        assert f"Example: groundswell broker {name}" in re.sub(r"\s+", " ", shown)


def test_no_kafka_is_said_in_one_line_with_the_address_and_the_cure():
    port = free_ports(1)[0]
    with pytest.raises(BrokerError) as refused:
        require_broker(Cluster(f"127.0.0.1:{port}"))
    assert str(refused.value) == (
        f"no Kafka at 127.0.0.1:{port} (connection refused): start one with "
        "`groundswell broker start`, or give the address of yours"
    )


def test_something_else_on_the_port_is_not_taken_for_kafka():
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(BrokerError, match=rf"listens at {address} but gave no answer"):
            require_broker(Cluster(address), timeout_s=0.5)


def test_a_cache_that_lost_a_jar_is_not_believed(tmp_path, monkeypatch):
    monkeypatch.setenv("GROUNDSWELL_CACHE", str(tmp_path))
    folder = tmp_path / f"kafka-{broker_jars.KAFKA_VERSION}"
    folder.mkdir()
    (folder / "bootstrap.checkpoint").write_bytes(b"first")
    (folder / "one.jar").write_bytes(b"jar")
    manifest = {"coordinates": list(broker_jars.COORDINATES), "jars": {"one.jar": 3}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert broker_jars.broker_files().class_path == str(folder / "one.jar")

    (folder / "one.jar").write_bytes(b"ja")
    monkeypatch.setattr(broker_jars, "_fetch", lambda _: pytest.fail("fetched"))
    with pytest.raises(pytest.fail.Exception, match="fetched"):
        broker_jars.broker_files()


@pytest.mark.chaos
def test_three_nodes_go_on_without_one_and_take_it_back(tmp_path):
    with EmbeddedKafka(tmp_path / "broker", nodes=3, die_with_parent=True) as cluster:
        create(cluster.bootstrap, "kept")
        produce(cluster.bootstrap, "kept", [b"1"])
        cluster.kill_node(1)
        produce(cluster.bootstrap, "kept", [b"2"])
        cluster.start_node(1)
        cluster.stop_node(2)
        produce(cluster.bootstrap, "kept", [b"3"])
        cluster.start_node(2)
        assert consume(cluster.bootstrap, "kept", 3) == [b"1", b"2", b"3"]
        pids = cluster.pids.values()
    assert not any(alive(pid) for pid in pids)
