"""A broker with ACLs that wants TLS and a password, or a certificate: our clients show them."""

import re
from contextlib import ExitStack
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclOperation,
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from typer.testing import CliRunner

from schemas.errors import BrokerError
from streams.__main__ import app
from streams.kafka.broker import EmbeddedKafka
from streams.kafka.cluster import Cluster
from streams.kafka.reach import require_broker
from tests.kafka.certificates import Authority
from tests.kafka.grants import commands, grant, worker
from tests.kafka.harness import Sender, campaign, deployment, wait_until
from tests.kafka.started import Kafka

USERS = [f"user-{number:03d}" for number in range(60)]
CAMPAIGN = """
campaign: spring
waves: 1
attribution_window: 1h
rewards: {click: 1}
templates:
  - {id: hello, channel: email, features: {warm: 1}}
"""
USER, PASSWORD, WRONG = "groundswell", "a password, with a comma", "such-a-wrong-one"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def broker(authority, tmp_path_factory):
    """One node; its plain listener is for what the company itself does in these tests."""
    folder = tmp_path_factory.mktemp("secured")
    certificate, key = authority.issue("broker", folder)
    both = folder / "broker.both.pem"
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    store = {"ssl.keystore.type": "PEM", "ssl.keystore.location": str(both)}
    trust = {"ssl.truststore.type": "PEM", "ssl.truststore.location": str(authority.ca)}
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    listeners = {
        "SASL_SSL": {
            **store,
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "scram-sha-512.sasl.jaas.config": scram,
        },
        "SSL": {**store, **trust, "ssl.client.auth": "required"},
    }
    acls = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",  # who comes by the plain way
    }
    with EmbeddedKafka(
        folder / "broker", listeners=listeners, settings=acls, die_with_parent=True
    ) as kafka:
        made = UserScramCredentialUpsertion(
            USER, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), PASSWORD.encode()
        )
        admin = plain(kafka).admin
        for done in admin.alter_user_scram_credentials([made]).values():
            done.result(30)
        yield kafka


def with_password(broker: EmbeddedKafka, authority: Authority, password: str = PASSWORD) -> Cluster:
    return Cluster(
        broker.bootstrap_of("SASL_SSL"),
        protocol="sasl_ssl",
        ca=authority.ca,
        username=USER,
        password=password,
    )


def with_certificate(broker: EmbeddedKafka, authority: Authority, folder: Path) -> Cluster:
    certificate, key = authority.issue("worker", folder)
    return Cluster(
        broker.bootstrap_of("SSL"),
        protocol="ssl",
        ca=authority.ca,
        certificate=certificate,
        key=key,
    )


def plain(broker: EmbeddedKafka) -> Kafka:
    """What the company itself does, by the plain listener."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    return Kafka(bootstrap=broker.bootstrap, admin=admin)


@pytest.mark.parametrize("way", ["password", "certificate"])
def test_a_campaign_runs_over_tls_with_the_rights_that_are_documented(
    way, broker, authority, namespace, tmp_path
):
    if way == "password":
        cluster, who = with_password(broker, authority), f"User:{USER}"
    else:
        cluster, who = with_certificate(broker, authority, tmp_path), "User:CN=worker"
    kafka = plain(broker)
    sources = [namespace + "company-events", namespace + "company-feedback"]
    grant(kafka.admin, who, worker(namespace, "groundswell", sources))
    settings = cluster.environment()
    with deployment(kafka, namespace, tmp_path / "loop", settings=settings) as loop:
        loop.start(0)
        loop.wait_open(0)
        loop.import_people(USERS)
        loop.wait_profiles(len(USERS), 60)
        with Sender(loop) as sender:
            loop.apply(campaign(waves=1))

            def closed() -> bool:
                loop.assert_alive()
                return [report.status for report in loop.reports().values()] == ["closed"]

            wait_until(closed, 60, "the wave is closed")
        learned = loop.settled_snapshot(sender)
        assert learned.feedback["click"] == sender.total("click") > 0
        assert loop.terminate(0) == 0
        assert PASSWORD not in loop.log(0).read_text()


def test_commands_reach_it_with_the_settings_of_a_worker(
    broker, authority, namespace, tmp_path, monkeypatch
):
    secret = tmp_path / "password"
    secret.write_text(f"{PASSWORD}\n")
    given = with_password(broker, authority).environment() | {
        "GROUNDSWELL_SASL_PASSWORD": "",
        "GROUNDSWELL_SASL_PASSWORD_FILE": str(secret),
        "GROUNDSWELL_TOPIC_PREFIX": namespace,
        "GROUNDSWELL_REPLICATION": "1",
        "GROUNDSWELL_MIN_INSYNC": "1",
    }
    admin = plain(broker).admin
    events, feedback = f"{namespace}company-events", f"{namespace}company-feedback"
    grant(admin, f"User:{USER}", commands(namespace, events, feedback))
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    made = CliRunner().invoke(app, ["topics", "ensure", "--sources-partitions", "1"])
    assert made.exit_code == 0, made.output
    people = tmp_path / "people.csv"
    people.write_text("user_id,age\nada,36\n")
    sent = CliRunner().invoke(app, ["users", "import", str(people)])
    assert sent.exit_code == 0, sent.output
    told = CliRunner().invoke(app, ["events", "tail", "company-events", "--no-follow"])
    assert told.exit_code == 0, told.output
    assert "ada" in told.output
    spring = tmp_path / "spring.yaml"
    spring.write_text(CAMPAIGN)
    applied = CliRunner().invoke(app, ["campaign", "apply", str(spring)])
    assert applied.exit_code == 0, applied.output


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"password": WRONG}, r"refuses this client \(.*[Aa]uthentication"),
        ({"ca": None}, r"refuses this client \(.*certificate"),
    ],
)
def test_what_a_broker_refuses_is_said_in_one_line_without_the_password(
    wrong, told, broker, authority
):
    right = with_password(broker, authority)
    given = {name: getattr(right, name) for name in right.__slots__} | wrong
    with pytest.raises(BrokerError, match=told) as error:
        require_broker(Cluster(**given), timeout_s=30)
    assert "\n" not in str(error.value)
    assert PASSWORD not in str(error.value)
    assert WRONG not in str(error.value)
    require_broker(right)


@pytest.mark.parametrize("protocol", ["plaintext", "ssl"])
def test_what_gives_no_answer_is_told_what_it_may_be(protocol, broker, authority, tmp_path):
    """Neither a client that does not speak TLS nor one without a certificate is told why."""
    require_broker(with_certificate(broker, authority, tmp_path))
    ca = authority.ca if protocol == "ssl" else None
    with pytest.raises(BrokerError, match=f"now {protocol}.*or a client's certificate"):
        require_broker(Cluster(broker.bootstrap_of("SSL"), protocol, ca=ca), timeout_s=2)


def test_a_worker_that_lacks_a_right_ends_and_says_which(broker, authority, namespace, tmp_path):
    cluster = with_password(broker, authority)
    kafka = plain(broker)
    lacking = {
        "campaigns": "campaigns may not be read: grant this user READ",
        "user-events": "user-events may not be read: grant this user READ",
        "shard-changelog": "restore of .*shard-changelog.*authorization failed",
        "groundswell": "may not be joined: grant this user READ on the group",
    }
    with ExitStack() as stack:
        loops = {}
        for number, name in enumerate(lacking):
            prefix = f"{namespace}{number}-"
            sources = [prefix + "company-events", prefix + "company-feedback"]
            given = worker(prefix, "groundswell", sources)
            left_out = (prefix + name, AclOperation.READ)
            grant(kafka.admin, f"User:{USER}", [one for one in given if one[1:] != left_out])
            made = deployment(
                kafka, prefix, tmp_path / name, settings=cluster.environment(), users=1
            )
            loops[name] = stack.enter_context(made)
            loops[name].start(0)
        for name, told in lacking.items():
            assert loops[name].workers[0].wait(90) == 4, loops[name].tail(0)
            assert re.search(told, loops[name].log(0).read_text(), re.IGNORECASE), name
