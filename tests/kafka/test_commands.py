"""The commands against a real Kafka: campaigns, topics, users, events; and without one."""

import dataclasses
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import structlog
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    ResourceType,
)

from schemas.campaign import Campaign
from schemas.errors import CampaignError, TopicError
from schemas.hashing import partition_of
from schemas.learning import LearningExample, Tally, WaveReport
from schemas.records import UserEvent
from schemas.topics import CAMPAIGNS, DEAD_LETTERS, LEARNING_EXAMPLES, WAVE_REPORTS
from schemas.wire import Codec
from streams.__main__ import main
from streams.commands.campaign_file import parse_campaign
from streams.kafka.campaign_client import CampaignClient
from streams.kafka.cluster import Cluster
from streams.kafka.read import read_all

pytestmark = pytest.mark.timeout(60)

YAML = """\
campaign: spring-sale
waves: 3
policy: {name: linear-thompson, params: {floor: 0.05}}
context:
  - {attribute: age, center: 40, scale: 15}
  - {attribute: plan, one_of: [free, plus]}
rewards: {click: 1, purchase: 2}
templates:
  - id: upsell
    channel: email
    features: {upsell: 1, price: 0.6}
  - id: letter
    channel: email
    features: {news: 1}
"""


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch, capsys) -> Iterator[Run]:
    def call(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["groundswell", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Ran(int(ended.value.code or 0), captured.out, captured.err)

    monkeypatch.setenv("COLUMNS", "200")
    yield call
    structlog.reset_defaults()  # main() has bound it to the captured streams


@pytest.fixture
def bus(kafka, namespace, monkeypatch) -> str:
    """Settings of a deployment of one's own."""
    for name, value in {
        "BOOTSTRAP": kafka.bootstrap,
        "TOPIC_PREFIX": namespace,
        "REPLICATION": "1",
        "MIN_INSYNC": "1",
        "USER_PARTITIONS": "2",
        "CAMPAIGN_PARTITIONS": "2",
    }.items():
        monkeypatch.setenv(f"GROUNDSWELL_{name}", value)
    return kafka.bootstrap


@pytest.fixture
def loop(bus, run) -> str:
    """As bus, with all topics."""
    made = run("topics", "ensure", "--sources-partitions", 3)
    assert made.code == 0, made.err
    return bus


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "sale.yaml"
    path.write_text(YAML)
    return path


def report(wave: int, **changes: object) -> WaveReport:
    policy = Tally(
        reason="policy",
        action="upsell",
        decisions=120,
        closed=100,
        feedback={"click": 20, "purchase": 5},
        reward_sum=30.0,
        reward_square_sum=60.0,
    )
    baseline = Tally(
        reason="baseline",
        action="letter",
        decisions=10,
        closed=10,
        feedback={"click": 1},
        reward_sum=1.0,
        reward_square_sum=1.0,
    )
    held = Tally(reason="holdout", action="no-send", decisions=7)
    plain = WaveReport(
        campaign_id="spring-sale",
        wave=wave,
        status="open",
        policy_version=wave,
        encoder_version="columns-1",
        started_at_ms=1,
        shards=2,
        shards_done=0,
        decided=137,
        open=20,
        tallies=[policy, baseline, held],
        updated_at_ms=2,
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def send(bootstrap: str, topic: str, *records: object, key: str, transaction: str = "") -> None:
    settings = {"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "log_level": 0}
    producer = Producer(settings | ({"transactional.id": transaction} if transaction else {}))
    if transaction:
        producer.init_transactions(10)
        producer.begin_transaction()
    for record in records:
        value = record if isinstance(record, bytes) else Codec().encode(topic, record)
        producer.produce(topic, value, key)
    if transaction:
        producer.commit_transaction(10)
    assert producer.flush(10) == 0


def refused_at_last(run: Run) -> Ran:
    """Ensure again until it refuses: the broker makes changes of topics known a moment later."""
    for _ in range(50):
        ran = run("topics", "ensure")
        if ran.code:
            return ran
        time.sleep(0.1)
    raise AssertionError("ensure goes on accepting")


# ---- topics


def test_ensure_makes_the_topics_once_and_verifies_them_after_that(bus, namespace, run):
    first = run("topics", "ensure", "--sources-partitions", 3)
    assert first.code == 0
    assert f"made {namespace}company-events (3 partitions)" in first.out
    assert f"made {namespace}ingest-changelog (3 partitions)" in first.out
    assert "17 topics are as they must be, 17 of them new" in first.out
    second = run("topics", "ensure", "--sources-partitions", 5)  # sources stay as they are
    assert (second.code, second.out) == (0, "17 topics are as they must be, 0 of them new\n")
    listed = run("topics", "list")
    assert f"{namespace}wave-starts" in listed.out
    assert "8.0 MiB" in listed.out
    assert "missing" not in listed.out


def test_ensure_asks_for_the_sources_and_list_shows_what_is_missing(bus, namespace, run):
    asked = run("topics", "ensure")
    assert asked.code == 1
    assert asked.err.count("\n") == 1
    assert f"source topic {namespace}company-events does not exist" in asked.err
    listed = run("topics", "list")
    assert listed.code == 0
    assert listed.out.count("missing") == 17


def test_ensure_refuses_another_partition_count_naming_both(loop, namespace, run, monkeypatch):
    monkeypatch.setenv("GROUNDSWELL_USER_PARTITIONS", "8")
    refused = run("topics", "ensure")
    assert refused.code == 1
    assert f"{namespace}user-events has 2 partitions, but must have 8" in refused.err
    assert "set GROUNDSWELL_USER_PARTITIONS=2" in refused.err


def test_ensure_says_what_to_do_when_a_source_has_grown(loop, namespace, run, kafka):
    grown = kafka.admin.create_partitions([NewPartitions(f"{namespace}company-events", 4)])
    for future in grown.values():
        future.result(10)
    refused = refused_at_last(run)
    assert f"{namespace}ingest-changelog has 3 partitions, but must have 4" in refused.err
    assert "raise its partitions to 4" in refused.err


@pytest.mark.parametrize(
    ("topic", "name", "value", "message"),
    [
        ("wave-starts", "max.message.bytes", "1000000", "takes records of at most 1000000 bytes"),
        ("campaigns", "cleanup.policy", "compact,delete", "cleanup.policy compact,delete"),
        ("shard-changelog", "delete.retention.ms", "1000", "delete.retention.ms 1000"),
    ],
)
def test_ensure_refuses_settings_that_lose_records(
    loop, namespace, run, kafka, topic, name, value, message
):
    change = ConfigResource(
        ResourceType.TOPIC,
        namespace + topic,
        incremental_configs=[ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)],
    )
    for future in kafka.admin.incremental_alter_configs([change]).values():
        future.result(10)
    refused = refused_at_last(run)
    assert refused.code == 1
    assert message in refused.err


# ---- campaigns


def test_a_campaign_is_made_changed_and_left_alone(loop, namespace, run, file):
    made = run("campaign", "apply", file)
    assert made.code == 0, made.err
    assert made.out.startswith("made spring-sale: active, 2 templates, 3 waves")
    again = run("campaign", "apply", file)
    assert again.out == "spring-sale is as the file says, version 1\n"
    file.write_text(YAML.replace("waves: 3", "waves: 4"))
    assert "changed spring-sale to version 2" in run("campaign", "apply", file).out
    records = list(read_all(Cluster(loop), namespace + CAMPAIGNS.name))
    read = [Codec().decode(record.value, Campaign) for record in records]
    assert [(c.version, c.waves, c.status) for c in read] == [(1, 3, "active"), (2, 4, "active")]
    assert {record.partition for record in records} == {partition_of("spring-sale", 2)}
    assert json.loads(run("campaign", "list", "--json").out) == [
        {
            "campaign": "spring-sale",
            "status": "active",
            "version": 2,
            "waves": 4,
            "templates": 2,
            "policy": "linear-thompson",
        }
    ]
    assert "spring-sale" in run("campaign", "list").out


def test_pause_resume_and_stop_write_versions_and_apply_keeps_the_status(loop, run, file):
    run("campaign", "apply", file)
    assert run("campaign", "pause", "spring-sale").out == "spring-sale is paused, version 2\n"
    assert "already paused, version 2" in run("campaign", "pause", "spring-sale").out
    file.write_text(YAML.replace("waves: 3", "waves: 4"))
    assert "version 3: paused" in run("campaign", "apply", file).out
    assert run("campaign", "resume", "spring-sale").out == "spring-sale is active, version 4\n"
    assert run("campaign", "stop", "spring-sale").out == "spring-sale is stopped, version 5\n"
    refused = run("campaign", "pause", "spring-sale")
    assert refused.code == 1
    assert "is stopped and cannot become paused" in refused.err
    assert run("campaign", "resume", "spring-sale").code == 0


def test_a_campaign_that_is_not_there_is_named_with_the_nearest(loop, run, file):
    run("campaign", "apply", file)
    for command in ("pause", "resume", "stop", "status"):
        missing = run("campaign", command, "spring-sail")
        assert missing.code == 1
        assert missing.err == (
            "groundswell: there is no campaign 'spring-sail': did you mean 'spring-sale'?\n"
        )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("scale: 15", "scale: 10", "context changed order, center or scale"),
        ("plan, one_of: [free, plus]", "plan, one_of: [free]", "context lost plan=plus"),
        ("news: 1", "novelty: 1", "template features lost news and gained novelty"),
        ("price: 0.6", "price: 0.7", "features of template upsell are others"),
        ("{name: linear-thompson, params: {floor: 0.05}}", "uniform", "policy is uniform, was"),
        ("floor: 0.05", "floor: 0.06", "policy.params are {'floor': 0.06}"),
        ("- id: letter", "- id: note", "templates letter, which are missing"),
    ],
)
def test_what_is_learned_from_can_change_until_the_first_wave_starts(
    loop, namespace, run, file, old, new, message
):
    file.write_text(YAML)
    run("campaign", "apply", file)
    file.write_text(YAML.replace("waves: 3", "waves: 5"))
    send(loop, namespace + WAVE_REPORTS.name, report(0), key="spring-sale/0")
    assert run("campaign", "apply", file).code == 0
    assert YAML.replace(old, new) != YAML
    file.write_text(YAML.replace(old, new))
    refused = run("campaign", "apply", file)
    assert refused.code == 1
    assert refused.err.count("\n") == 1
    assert message in refused.err
    file.write_text(YAML.replace(old, new).replace("spring-sale", "summer-sale"))
    assert run("campaign", "apply", file).code == 0


def test_a_change_that_someone_else_made_first_is_not_written_over(loop, namespace):
    campaign = parse_campaign(YAML.encode(), "f.yaml", Path(), 1)

    class Overtaken(CampaignClient):
        def _write(self, *given: object):
            other = dataclasses.replace(campaign, version=1, waves=9)
            send(loop, namespace + CAMPAIGNS.name, other, key="spring-sale")
            return super()._write(*given)

    with pytest.raises(CampaignError, match="by someone else at the same time"):
        Overtaken(Cluster(loop), namespace).apply(campaign, 1)
    client = CampaignClient(Cluster(loop), namespace)
    assert client.campaign("spring-sale").waves == 9  # theirs stands
    wanted = dataclasses.replace(campaign, waves=5)
    assert client.apply(wanted, 2).campaign.version == 2


def test_status_gives_reward_per_send_with_its_interval(loop, namespace, run, file):
    run("campaign", "apply", file)
    topic = namespace + WAVE_REPORTS.name
    send(loop, topic, report(0, decided=1), report(0), key="spring-sale/0", transaction="r")
    send(loop, topic, report(0, campaign_id="spring-sale-2"), key="spring-sale-2/0")
    shown = run("campaign", "status", "spring-sale")
    assert "1 of 3 waves started" in shown.out
    assert "0.3000 ±0.1407" in shown.out  # 0.3 ± 1.96 sqrt((60 - 9) / 99 / 100)
    [wave] = json.loads(run("campaign", "status", "spring-sale", "--json").out)["progress"]
    assert (wave["decided"], wave["open"], wave["policy_version"]) == (137, 20, 0)
    assert wave["policy"] | {"low": None, "high": None} == {
        "sends": 120,
        "closed": 100,
        "undelivered": 0,
        "clicks": 20,
        "purchases": 5,
        "reward": 0.3,
        "low": None,
        "high": None,
    }
    low, high = wave["policy"]["low"], wave["policy"]["high"]
    assert (low, high) == pytest.approx((0.1593, 0.4407), abs=1e-4)
    assert wave["baseline"]["reward"] == 0.1
    assert wave["reasons"] == {"policy": 120, "baseline": 10, "holdout": 7}


def test_status_follow_ends_with_the_last_wave(loop, namespace, run, file):
    run("campaign", "apply", file)
    topic = namespace + WAVE_REPORTS.name

    def course() -> None:
        for wave in range(3):
            time.sleep(0.3)
            ended = report(wave, status="closed", ended_at_ms=9, open=0)
            send(loop, topic, report(wave), ended, key=f"spring-sale/{wave}")

    worker = threading.Thread(target=course)
    worker.start()
    followed = run("campaign", "status", "spring-sale", "--follow", "--json")
    worker.join()
    last = json.loads(followed.out.splitlines()[-1])
    assert [wave["status"] for wave in last["progress"]] == ["closed"] * 3


def test_apply_without_topics_names_the_cure(bus, run, file):
    refused = run("campaign", "apply", file)
    assert refused.code == 1
    assert "groundswell topics ensure" in refused.err
    assert refused.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("campaign", "list"),
        ("campaign", "status", "x"),
        ("topics", "ensure"),
        ("topics", "list"),
        ("events", "tail", "user-events"),
    ],
)
def test_without_a_broker_there_is_one_clear_line(run, arguments):
    silent = run(*arguments, "--bootstrap", "127.0.0.1:1")
    assert silent.code == 1
    assert silent.err.count("\n") == 1
    assert "no Kafka at 127.0.0.1:1" in silent.err


def test_a_file_is_checked_before_a_broker_is_asked(run, tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text("campaign: x\ntemplates: [\n")
    refused = run("campaign", "apply", file, "--bootstrap", "127.0.0.1:1")
    assert refused.code == 1
    assert refused.err.count("\n") == 1
    assert f"{file}:3: not YAML" in refused.err
    missing = run("campaign", "apply", tmp_path / "none.yaml")
    assert "cannot be read: No such file" in missing.err
    good = tmp_path / "good.yaml"
    good.write_text(YAML)
    assert "is sound" in run("campaign", "apply", good, "--check").out


def test_usage_errors_end_with_2(run):
    assert run("campaign", "apply").code == 2
    assert run("topics", "ensure", "--sources-partitions", 0).code == 2
    assert run("campaign", "nonsense").code == 2


def test_every_command_shows_an_example(run):
    for command in (
        *(f"campaign {name}" for name in ("apply", "list", "status", "pause", "resume", "stop")),
        "topics ensure",
        "topics list",
        "users import",
        "events tail",
    ):
        assert f"Example: groundswell {command}" in run(*command.split(), "--help").out


# ---- users


CSV = """\
user_id,contact.email,age,plan,score,vip,zip,tags
u1,u1@example.com,31,free,1,true,01234,a|b
u2,,,plus,2.5,False,90210,
"""


def written(bootstrap: str, topic: str) -> dict[str, UserEvent]:
    records = read_all(Cluster(bootstrap), topic)
    events = [Codec().decode(record.value, UserEvent) for record in records]
    return {event.user_id: event for event in events}


def test_people_are_imported_with_types_from_a_csv(loop, namespace, run, tmp_path):
    file = tmp_path / "people.csv"
    file.write_text(CSV)
    sent = run("users", "import", file, "--list-column", "tags", "--at", "2026-01-01T00:00:00Z")
    assert (sent.code, sent.out) == (0, f"sent 2 rows to {namespace}company-events\n")
    found = written(loop, f"{namespace}company-events")
    assert found["u1"].attributes == {
        "age": 31,
        "plan": "free",
        "score": 1.0,
        "vip": True,
        "zip": "01234",
        "tags": ["a", "b"],
    }
    assert found["u1"].contacts == {"email": "u1@example.com"}
    assert (found["u1"].type, found["u1"].occurred_at_ms) == ("profile", 1_767_225_600_000)
    assert found["u2"].attributes == {"plan": "plus", "score": 2.5, "vip": False, "zip": "90210"}
    assert found["u2"].contacts == {}
    run("users", "import", file, "--list-column", "tags", "--at", "2026-01-01T00:00:00Z")
    records = [
        (record.partition, Codec().decode(record.value, UserEvent).event_id)
        for record in read_all(Cluster(loop), f"{namespace}company-events")
    ]
    assert len(records) == 4
    assert len(set(records)) == 2  # the same ids in the same partitions again


def test_json_lines_keep_their_types_and_columns_can_be_mapped(loop, namespace, run, tmp_path):
    file = tmp_path / "people.jsonl"
    file.write_text(
        '{"id": 7, "mail": "x@example.com", "plan": null, "tags": ["a"], "n": 1.5, "junk": {}}\n\n'
    )
    mapping = ("--map", "id=user_id", "--map", "mail=contact.email", "--map", "junk=-")
    sent = run("users", "import", file, *mapping)
    assert sent.code == 0, sent.err
    event = written(loop, f"{namespace}company-events")["7"]
    assert event.attributes == {"plan": None, "tags": ["a"], "n": 1.5}
    assert event.contacts == {"email": "x@example.com"}


BAD = (
    b"user_id,age\nu1,1\n,2\nu3,3,4\n"
    b"u4,\xff\n" + b"u" * 300 + b',5\nu5,"a\nb"\nu6,nine\nu7,"un"closed\n'
)


def test_bad_rows_are_named_by_line_and_nothing_is_sent(loop, namespace, run, tmp_path):
    file = tmp_path / "people.csv"
    file.write_bytes(BAD)
    refused = run("users", "import", file)
    assert refused.code == 1
    lines = refused.err.splitlines()
    assert lines[0].startswith("line 3: user_id is missing")
    assert lines[1].startswith("line 4: has 3 cells, the header has 2")
    assert lines[2].startswith("line 5: is not UTF-8")
    assert lines[3].startswith("line 6: user_id must have 1 to 256 bytes, got 300")
    assert lines[4].startswith("line 10: no CSV")
    assert lines[5].startswith(f"groundswell: 5 of 8 rows of {file} are bad, nothing was sent")
    assert written(loop, f"{namespace}company-events") == {}
    dry = run("users", "import", file, "--skip-bad", "--dry-run")
    assert (dry.code, dry.out) == (0, "3 rows are sound, 5 bad ones left out; nothing was sent\n")
    sent = run("users", "import", file, "--skip-bad")
    assert sent.code == 0
    assert sorted(written(loop, f"{namespace}company-events")) == ["u1", "u5", "u6"]


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("p.csv", "id,age\n1,2\n", (), "has no column user_id, but id, age"),
        ("p.csv", "user_id,age\n1,2\n", ("--map", "aeg=x"), "no column 'aeg': did you mean 'age'?"),
        ("p.csv", "user_id,age\n1,2\n", ("--map", "age"), "--map must be COLUMN=TARGET"),
        ("p.csv", "user_id,age\n1,2\n", ("--at", "today"), "--at must be a time with its zone"),
        ("p.csv", "user_id,a,a\n1,2,3\n", (), "two columns mean 'a'"),
        ("p.csv", "", (), "has no column user_id, but none"),
        ("p.txt", "user_id\n1\n", (), "name it .csv"),
        ("p.jsonl", '{"user_id": 1}\n[1]\n', (), "line 2: no JSON object"),
        ("p.jsonl", '{"user_id": "a", "x": {"y": 1}}\n', (), "line 1: x must be a text"),
        ("p.jsonl", '{"user_id": "a", "x": 9223372036854775808}\n', (), "x must fit 64 bits"),
        ("p.jsonl", '{"user_id": "a", "contact.email": 5}\n', (), "contact.email must be a text"),
    ],
)
def test_a_file_that_cannot_be_imported_is_told_why(run, tmp_path, name, content, options, message):
    (tmp_path / name).write_text(content)
    refused = run("users", "import", tmp_path / name, "--dry-run", *options)
    assert refused.code == 1
    assert message in refused.err
    assert "Traceback" not in refused.err


def test_an_import_without_its_topic_or_broker_says_so(bus, namespace, run, tmp_path):
    file = tmp_path / "people.csv"
    file.write_text(CSV)
    refused = run("users", "import", file)
    assert f"source topic {namespace}company-events does not exist" in refused.err
    silent = run("users", "import", file, "--bootstrap", "127.0.0.1:1")
    assert silent.code == 1
    assert "no Kafka at" in silent.err


# ---- events


def test_tail_decodes_records_and_shows_why_a_letter_is_dead(loop, namespace, run):
    event = UserEvent(user_id="u1", type="app_open", occurred_at_ms=5, attributes={"age": 3})
    send(loop, f"{namespace}company-events", event, b"junk", key="u1")
    tailed = run("events", "tail", "company-events", "--from-beginning", "--limit", 2, "--json")
    first, second = map(json.loads, tailed.out.splitlines())
    assert first["record"]["type"] == "app_open"
    assert first["topic"] == "company-events"
    assert second["preview"] == "junk"
    assert "not in Confluent wire format" in second["unreadable"]
    letters = namespace + DEAD_LETTERS.name
    producer = Producer({"bootstrap.servers": loop})
    producer.produce(
        letters,
        b"\x00\xff\x01",
        b"k",
        headers={"kafka_dlt-exception-message": b"it is \x1b[31mred"},
    )
    producer.produce(letters, None, b"k")
    producer.flush(10)
    tailed = run("events", "tail", "dead-letters", "--no-follow")
    assert tailed.code == 0
    assert '"preview":"0x00ff01"' in tailed.out
    assert "is " in tailed.out
    assert '"deleted":true' in tailed.out
    assert "\x1b" not in tailed.out


def test_tail_starts_with_what_comes(loop, namespace, run):
    event = UserEvent(user_id="u1", type="old", occurred_at_ms=5)
    send(loop, f"{namespace}company-events", event, key="u1")
    news = dataclasses.replace(event, type="new")
    later = threading.Timer(1.5, send, (loop, f"{namespace}company-events", news), {"key": "u1"})
    later.start()
    tailed = run("events", "tail", "company-events", "--limit", 1)
    later.join()
    assert '"type":"new"' in tailed.out
    assert "old" not in tailed.out


def test_ctrl_c_ends_what_follows_quietly(loop, namespace, run, file):
    run("campaign", "apply", file)
    for command in (
        ("events", "tail", "rewards"),
        ("campaign", "status", "spring-sale", "--follow"),
    ):
        ctrl_c = threading.Timer(3, os.kill, (os.getpid(), signal.SIGINT))
        ctrl_c.start()
        ended = run(*command)
        ctrl_c.join()
        assert (ended.code, ended.err) == (0, "")


def test_tail_names_the_nearest_topic(loop, run):
    refused = run("events", "tail", "user-event")
    assert refused.code == 1
    assert "did you mean 'user-events'?" in refused.err


# ---- reading to the end


def test_reading_ends_behind_markers_aborted_and_deleted_records(loop, namespace):
    topic = f"{namespace}company-feedback"
    producer = Producer({"bootstrap.servers": loop, "transactional.id": f"{namespace}x"})
    producer.init_transactions(10)
    for number, commit in enumerate((True, False, True, False)):
        producer.begin_transaction()
        for partition in range(2):  # the third one stays empty
            producer.produce(topic, str(number).encode(), b"k", partition=partition)
        producer.flush(10)
        if commit:
            producer.commit_transaction(10)
        else:
            producer.abort_transaction(10)
    began = time.monotonic()
    assert [r.value for r in read_all(Cluster(loop), topic) if r.partition == 0] == [b"0", b"2"]
    assert time.monotonic() - began < 5


def test_reading_does_not_wait_for_an_open_transaction(loop, namespace):
    topic = f"{namespace}company-feedback"
    producer = Producer({"bootstrap.servers": loop, "transactional.id": f"{namespace}y"})
    producer.init_transactions(10)
    producer.begin_transaction()
    producer.produce(topic, b"open", b"k", partition=0)
    producer.flush(10)
    began = time.monotonic()
    assert list(read_all(Cluster(loop), topic)) == []
    assert time.monotonic() - began < 5
    producer.commit_transaction(10)
    assert [record.value for record in read_all(Cluster(loop), topic)] == [b"open"]


def test_reading_a_topic_that_is_not_there_makes_none(loop, namespace, kafka):
    with pytest.raises(TopicError, match="does not exist"):
        list(read_all(Cluster(loop), f"{namespace}nothing"))
    assert f"{namespace}nothing" not in kafka.admin.list_topics(timeout=10).topics


def test_reading_leaves_no_trace_in_a_group(loop, namespace):
    list(read_all(Cluster(loop), f"{namespace}company-feedback"))
    asker = Consumer({"bootstrap.servers": loop, "group.id": "none"})
    [found] = asker.committed([TopicPartition(f"{namespace}company-feedback", 0)], timeout=10)
    asker.close()
    assert found.offset < 0


def test_policies_are_valued_on_a_campaigns_own_log(run, loop, namespace, file):
    assert run("campaign", "apply", file).code == 0
    nothing = run("campaign", "value", "spring-sale")
    assert nothing.code == 1
    assert "0 closed decisions of the policy in 0 waves" in nothing.err
    producer, topic = Producer({"bootstrap.servers": loop}), namespace + LEARNING_EXAMPLES.name
    codec = Codec()
    rng = np.random.default_rng(1)
    for number in range(900):
        wave = number // 300
        odds = [0.5 + 0.2 * wave, 0.5 - 0.2 * wave]
        upsell = rng.random() < odds[0]
        outcome = LearningExample(
            decision_id=f"d{number}",
            campaign_id="spring-sale" if number % 2 else "another",
            campaign_version=1,
            wave=wave,
            user_id=f"u{number}",
            reason="policy",
            action="upsell" if upsell else "letter",
            propensity=odds[0] if upsell else odds[1],
            propensity_kind="drawn",
            actions=["upsell", "letter"],
            probabilities=odds,
            context=np.array([number % 7 - 3.0, 1.0, 0.0], "<f4").tobytes(),
            reward=float(rng.random() < (0.6 if upsell else 0.3)),
            policy_version=wave,
            encoder_version="columns",
            decided_at_ms=1_700_000_000_000 + number,
            closed_at_ms=1_700_000_100_000 + number,
        )
        producer.produce(topic, codec.encode(topic, outcome), outcome.user_id)
    assert producer.flush(10) == 0
    shown = run("campaign", "value", "spring-sale", "--split", 0.3)
    assert shown.code == 0, shown.err
    assert "learned from 150 outcomes before wave 1, valued on 300 decisions since" in shown.out
    for row in ("the log's own", "linear-thompson", "uniform", "adaptive"):
        assert row in shown.out
    fixed = "{name: fixed, params: {action: letter}}"
    told = json.loads(run("campaign", "value", "spring-sale", "--policy", fixed, "--json").out)
    letters = told["policies"][fixed]
    assert letters["adaptive"]["low"] <= 0.3 <= letters["adaptive"]["high"]
    assert letters["diagnosis"]["verdict"] in ("worse", "too-small")
    # without features of templates: a model for all is given what it needs to tell them apart
    bare = re.sub(r"\n    features: .*|\npolicy: .*", "", YAML).replace("spring-sale", "another")
    file.write_text(bare)
    assert run("campaign", "apply", file).code == 0
    asked = ("--policy", "adaptive-thompson", "--policy", "linear-thompson")
    told = json.loads(run("campaign", "value", "another", *asked, "--json").out)["policies"]
    assert all(told[name]["adaptive"]["value"] > 0.5 for name in asked[1::2])
    wrong = run("campaign", "value", "spring-sale", "--policy", "unifrom")
    assert wrong.code == 1
    assert "did you mean 'uniform'?" in wrong.err
