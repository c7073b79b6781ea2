"""The reference sender: what is decided is sent, receipted, and survives refusals and crashes."""

import contextlib
import dataclasses
import http.server
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import default as email_policy

import pytest
import structlog
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import NewTopic
from msgspec.structs import replace
from typer.testing import CliRunner

from schemas.errors import SettingsError
from schemas.records import Decision, Reward
from schemas.wire import Codec
from streams.commands.sender import app, route_of
from streams.kafka.broker_config import free_ports
from streams.settings import Settings
from streams.simulation.outboxes import SmtpOutbox, WebhookOutbox, signature
from streams.simulation.reference_sender import Patience, ReferenceSender, Route
from tests.kafka.certificates import Authority

SECRET = b"a secret of 20 bytes"
NOW_MS = 1_700_000_000_000
QUICK = Patience(attempts=3, wait_first_s=0.01)
CODEC = Codec()

DECISION = Decision(
    decision_id="d-0",
    campaign_id="spring-sale",
    campaign_version=1,
    wave=0,
    user_id="user-Ännchen",
    action="discount-10",
    channel="email",
    contact="anna@example.org",
    reason="policy",
    propensity=0.5,
    policy_version=1,
    encoder_version="attributes",
    decided_at_ms=NOW_MS,
    expires_at_ms=NOW_MS + 3_600_000,
    variables={"subject": "Zehn Prozent\r\nBcc: all@example.org", "text": "Nur heute."},
)


@dataclass
class Bus:
    """Topics of this test alone, and what stands in them."""

    bootstrap: str
    route: Route
    _producer: Producer = field(init=False)

    def __post_init__(self) -> None:
        self._producer = Producer({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def decide(self, *decisions: Decision | bytes) -> None:
        for decision in decisions:
            value = decision if isinstance(decision, bytes) else CODEC.encode("any", decision)
            self._producer.produce(self.route.decisions, value, b"key", partition=0)
        assert self._producer.flush(20) == 0

    def receipts(self, count: int) -> list[Reward]:
        """So many receipts, or what has come after 20 s."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "reader",
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )
        consumer.assign([TopicPartition(self.route.receipts, p, 0) for p in (0, 1)])
        found: list[Reward] = []
        deadline = time.monotonic() + 20
        while len(found) < count and time.monotonic() < deadline:
            messages = [m for m in consumer.consume(100, 0.1) if not m.error()]
            assert {m.key().decode() for m in messages} <= {DECISION.user_id}
            found += [CODEC.decode(m.value(), Reward) for m in messages]
        consumer.close()
        return found

    def committed(self, offset: int | None = None) -> int:
        """The group's offset, set to `offset` before if that is given."""
        consumer = Consumer(
            {"bootstrap.servers": self.bootstrap, "group.id": self.route.group, "log_level": 0}
        )
        tp = TopicPartition(self.route.decisions, 0)
        if offset is not None:
            tp.offset = offset
            consumer.commit(offsets=[tp], asynchronous=False)
        (found,) = consumer.committed([tp], 10)
        consumer.close()
        return int(found.offset)

    @contextlib.contextmanager
    def sending(self, outbox, **changed) -> Iterator[ReferenceSender]:
        sender = ReferenceSender(
            dataclasses.replace(self.route, **changed), outbox, CODEC, lambda: NOW_MS, QUICK
        )
        stop = threading.Event()
        thread = threading.Thread(target=sender.run, args=(stop,))
        thread.start()
        try:
            yield sender
        finally:
            stop.set()
            thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def bus(kafka, namespace):
    settings = Settings(bootstrap=kafka.bootstrap, topic_prefix=namespace)
    route = route_of(settings, "email")
    topics = [NewTopic(name, 2) for name in (route.decisions, route.receipts)]
    for made in kafka.admin.create_topics(topics).values():
        made.result(20)
    return Bus(kafka.bootstrap, route)


class Hook(http.server.ThreadingHTTPServer):
    """A webhook that answers as it is told, by default 200."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.posts: list[dict] = []
        self.before_answer: Callable[[], object] = lambda: None
        super().__init__(("127.0.0.1", 0), HookHandler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/notify?from=groundswell"


class HookHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["X-Groundswell-Signature"] == signature(SECRET, body)
        assert self.path == "/notify?from=groundswell"
        post = json.loads(body)
        assert self.headers["X-Groundswell-Decision"] == post["decision_id"]
        self.server.posts.append(post)
        self.server.before_answer()
        status = self.server.answers.pop(0) if self.server.answers else 200
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hook():
    with Hook() as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def webhook(hook):
    return WebhookOutbox(hook.url, SECRET)


def receipt(decision: Decision, kind: str) -> Reward:
    return Reward(
        reward_id=f"{decision.decision_id}:{kind}",
        user_id=decision.user_id,
        kind=kind,
        occurred_at_ms=NOW_MS,
        decision_id=decision.decision_id,
        campaign_id=decision.campaign_id,
        channel=decision.channel,
    )


def test_what_is_to_be_sent_is_sent_once_and_the_rest_is_not(bus, hook, webhook):
    bus.decide(
        replace(DECISION, decision_id="d-none", action="no-send", channel=None, contact=None),
        replace(DECISION, decision_id="d-late", expires_at_ms=NOW_MS),
        replace(DECISION, decision_id="d-push", channel="push"),
        b"no record",
        DECISION,
    )
    with structlog.testing.capture_logs() as logs:
        with bus.sending(webhook) as sender:
            assert bus.receipts(1) == [receipt(DECISION, "delivered")]
        assert sender.counts == {"expired": 1, "unreadable": 1, "delivered": 1}
    assert hook.posts == [
        {
            "decision_id": "d-0",
            "campaign_id": "spring-sale",
            "user_id": "user-Ännchen",
            "action": "discount-10",
            "channel": "email",
            "contact": "anna@example.org",
            "variables": DECISION.variables,
            "expires_at_ms": DECISION.expires_at_ms,
        }
    ]
    assert bus.committed() == 5
    assert "decision_unreadable" in {entry["event"] for entry in logs}
    assert not re.search(r"nnchen|anna|secret", str(logs))


def test_a_decision_that_was_not_committed_is_not_sent(kafka, bus, hook, webhook):
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap, "transactional.id": bus.route.group, "log_level": 0}
    )
    producer.init_transactions(20)
    producer.begin_transaction()
    ghost = replace(DECISION, decision_id="d-ghost")
    producer.produce(bus.route.decisions, CODEC.encode("any", ghost), b"key", partition=0)
    producer.flush(10)
    producer.abort_transaction(10)
    bus.decide(DECISION)
    with bus.sending(webhook):
        assert bus.receipts(1) == [receipt(DECISION, "delivered")]
    assert [post["decision_id"] for post in hook.posts] == ["d-0"]


def test_a_webhook_that_fails_twice_is_asked_a_third_time(bus, hook, webhook):
    hook.answers = [503, 429]
    bus.decide(DECISION)
    with structlog.testing.capture_logs() as logs, bus.sending(webhook):
        assert bus.receipts(1) == [receipt(DECISION, "delivered")]
    assert [post["decision_id"] for post in hook.posts] == ["d-0"] * 3
    assert not re.search(r"nnchen|anna|secret", str(logs))


@pytest.mark.parametrize(("answers", "posts"), [([422], 1), ([301], 1), ([500] * 3, 3)])
def test_a_webhook_that_refuses_for_good_makes_a_failed_receipt(bus, hook, webhook, answers, posts):
    hook.answers = list(answers)
    after = replace(DECISION, decision_id="d-1")
    bus.decide(DECISION, after)
    with bus.sending(webhook) as sender:
        assert {r.reward_id for r in bus.receipts(2)} == {"d-0:failed", "d-1:delivered"}
    assert len(hook.posts) == posts + 1
    assert sender.counts == {"failed": 1, "delivered": 1}


@pytest.mark.parametrize("broken", ["nobody listens", "401"])
def test_where_nothing_is_taken_the_sender_ends_and_loses_nothing(bus, hook, webhook, broken):
    bus.decide(DECISION)
    if broken == "401":
        hook.answers = [401]
        outbox, told = webhook, r"answered 401: check GROUNDSWELL_WEBHOOK_SECRET"
    else:
        outbox = WebhookOutbox(f"http://127.0.0.1:{free_ports(1)[0]}", SECRET)
        told = r"^nobody answers where notifications go \(Connection refused, 3 attempts\): nothing"
    sender = ReferenceSender(bus.route, outbox, CODEC, lambda: NOW_MS, QUICK)
    with pytest.raises(SettingsError, match=told):
        sender.run(threading.Event())
    with bus.sending(webhook):
        assert bus.receipts(1) == [receipt(DECISION, "delivered")]


def test_decisions_that_come_again_make_the_same_receipt_id_again(bus, hook, webhook):
    bus.decide(DECISION, replace(DECISION, decision_id="d-1"))
    with bus.sending(webhook):
        assert len(bus.receipts(2)) == 2
    assert bus.committed(0) == 0  # as after a crash
    with bus.sending(webhook):
        assert {r.reward_id for r in bus.receipts(4)} == {"d-0:delivered", "d-1:delivered"}
    assert [post["decision_id"] for post in hook.posts] == ["d-0", "d-1"] * 2


def command(bus: Bus, hook: Hook) -> subprocess.Popen:
    prefix = bus.route.decisions.removesuffix("send-decisions")
    return subprocess.Popen(
        [
            *(sys.executable, "-c", "from streams.commands.sender import app; app()", "run"),
            *("--webhook", hook.url, "--channel", "email", "--bootstrap", bus.bootstrap),
        ],
        env=os.environ
        | {"GROUNDSWELL_WEBHOOK_SECRET": SECRET.decode(), "GROUNDSWELL_TOPIC_PREFIX": prefix},
    )


def test_a_sender_killed_while_it_sends_sends_again_and_receipts_once(bus, hook):
    now_ms = int(time.time() * 1000)
    decision = replace(DECISION, expires_at_ms=now_ms + 3_600_000)
    bus.decide(decision)
    asked, go_on = threading.Event(), threading.Event()
    hook.before_answer = lambda: (asked.set(), go_on.wait(20))
    with command(bus, hook) as first:
        assert asked.wait(20)
        first.send_signal(signal.SIGKILL)
    go_on.set()
    with command(bus, hook) as second:
        try:
            # The dead one's partitions are free when its session is over; and then none comes.
            (got,) = receipts_within(bus, 60)
            assert got.reward_id == "d-0:delivered"
            assert got.occurred_at_ms >= now_ms
        finally:
            second.send_signal(signal.SIGTERM)
        assert second.wait(20) == 0
    assert [post["decision_id"] for post in hook.posts] == ["d-0", "d-0"]
    assert len(bus.receipts(1)) == 1
    assert bus.committed() == 1


def receipts_within(bus: Bus, patience_s: float) -> list[Reward]:
    deadline = time.monotonic() + patience_s
    found: list[Reward] = []
    while not found and time.monotonic() < deadline:
        found = bus.receipts(1)
    return found


class Relay:
    """A mail relay on loopback that answers each message as it is told, by default 250."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.answers: list[str] = []
        self.mails: list[tuple[str, list[str], bytes]] = []
        relay = self

        class Handler:
            async def handle_RCPT(self, _server, _session, envelope, address, _options):  # noqa: N802
                if address.startswith("nobody"):
                    return f"550 no {address} here"
                envelope.rcpt_tos.append(address)
                return "250 ok"

            async def handle_DATA(self, _server, _session, envelope):  # noqa: N802
                answer = relay.answers.pop(0) if relay.answers else "250 ok"
                if answer.startswith("250"):
                    relay.mails.append(
                        (envelope.mail_from, list(envelope.rcpt_tos), envelope.original_content)
                    )
                return answer

        class Loopback(Controller):
            def factory(self):
                return SMTP(
                    Handler(), hostname="relay", tls_context=tls, require_starttls=bool(tls)
                )

        self.port = free_ports(1)[0]
        self.controller = Loopback(Handler(), hostname="127.0.0.1", port=self.port)


@contextlib.contextmanager
def relaying(tls: ssl.SSLContext | None = None) -> Iterator[Relay]:
    relay = Relay(tls)
    relay.controller.start()
    try:
        yield relay
    finally:
        relay.controller.stop()


def test_an_email_says_what_the_template_says_and_names_its_decision(bus):
    linked = {**DECISION.variables, "link": "https://example.org/x"}
    bus.decide(replace(DECISION, variables=linked))
    with relaying() as relay:
        outbox = SmtpOutbox("127.0.0.1", relay.port, "news@example.org")
        with bus.sending(outbox):
            assert [r.kind for r in bus.receipts(1)] == ["delivered"]
        ((sender, to, raw),) = relay.mails
    assert (sender, to) == ("news@example.org", ["anna@example.org"])
    mail = message_from_bytes(raw, policy=email_policy)
    assert mail["Subject"] == "Zehn Prozent Bcc: all@example.org"
    assert (mail["From"], mail["To"], mail["Bcc"]) == (
        "news@example.org",
        "anna@example.org",
        None,
    )
    assert mail["X-Groundswell-Decision"] == "d-0"
    assert mail["Message-ID"] == "<d-0@example.org>"
    assert mail["Date"] is not None
    assert mail.get_content().split() == ["Nur", "heute.", "https://example.org/x"]


def test_a_relay_that_fails_for_now_is_asked_again_and_one_address_fails_alone(bus):
    bad = [
        replace(DECISION, decision_id="d-bad0", contact="nobody@example.org"),
        replace(DECISION, decision_id="d-bad1", contact="a@example.org, b@example.org"),
        replace(DECISION, decision_id="d-bad2", contact="a@example.org\r\nBcc: b@example.org"),
        replace(DECISION, decision_id="d-bad3", contact=None),
        replace(DECISION, decision_id="d-bad4", variables={"subject": "only"}),
        replace(DECISION, decision_id="d-bad5", contact="ännchen@example.org"),
    ]
    bus.decide(bad[0], DECISION, *bad[1:], replace(DECISION, decision_id="d-last"))
    with relaying() as relay, structlog.testing.capture_logs() as logs:
        relay.answers = ["451 later", "421 later still", "250 ok", "554 spam"]
        with bus.sending(SmtpOutbox("127.0.0.1", relay.port, "news@example.org")):
            got = bus.receipts(8)
    kinds = {r.decision_id: r.kind for r in got}
    assert kinds["d-0"] == "delivered"
    assert [kinds[f"d-bad{i}"] for i in range(6)] == ["failed"] * 6
    assert kinds["d-last"] == "failed"
    assert len(got) == 8
    whys = {entry.get("why") for entry in logs if entry["event"] == "notification_failed"}
    assert {"the relay answered 550", "the relay answered 554"} <= whys
    assert "the relay takes no such address (no SMTPUTF8)" in whys
    assert "the contact is no email address" in whys
    assert "the template has no variables subject and text" in whys
    assert not re.search(r"nnchen|anna|nobody|example\.org", str(logs))


def test_a_relay_that_comes_back_gets_what_was_held(bus):
    bus.decide(DECISION)
    port = free_ports(1)[0]
    outbox = SmtpOutbox("127.0.0.1", port, "news@example.org")
    with pytest.raises(SettingsError, match="nothing is lost, start again when it does"):
        ReferenceSender(bus.route, outbox, CODEC, lambda: NOW_MS, QUICK).run(threading.Event())
    with relaying() as relay, bus.sending(SmtpOutbox("127.0.0.1", relay.port, "n@example.org")):
        assert [r.kind for r in bus.receipts(1)] == ["delivered"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that only those know who are shown it."""
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder)
    return authority.ca, *authority.issue("relay", folder)


def test_starttls_is_a_must_when_it_is_asked_for(bus, certificate):
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca, shown, key = certificate
    theirs.load_cert_chain(shown, key)
    bus.decide(DECISION)
    ours = ssl.create_default_context(cafile=ca)

    def refused(relay: Relay, tls: ssl.SSLContext) -> None:
        outbox = SmtpOutbox("127.0.0.1", relay.port, "n@example.org", tls=tls)
        with pytest.raises(SettingsError, match=rf"no STARTTLS with 127.0.0.1:{relay.port}: "):
            ReferenceSender(bus.route, outbox, CODEC, lambda: NOW_MS, QUICK).run(threading.Event())
        assert relay.mails == []

    with relaying() as plain:
        refused(plain, ours)
    with relaying(theirs) as relay:
        refused(relay, ssl.create_default_context())  # which trusts none like this
        with bus.sending(SmtpOutbox("127.0.0.1", relay.port, "n@example.org", tls=ours)):
            assert [r.kind for r in bus.receipts(1)] == ["delivered"]
        assert len(relay.mails) == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "where to? Give either --smtp HOST:PORT or --webhook URL"),
        (["--smtp", "h:1", "--webhook", "http://h"], "where to?"),
        (["--smtp", "relay"], "--smtp takes host:port, got 'relay': such as 127.0.0.1:25"),
        (["--smtp", "relay:25"], "--smtp needs --from: the address that emails come from"),
        (["--smtp", "r:25", "--from", "A <a@b.c>"], "--from takes one plain address"),
        (["--webhook", "ftp://h/p"], "--webhook takes http(s)://host[:port]/path, got ftp://h"),
        (["--webhook", "http://u:geheim@h"], "http://h: no user or password in it"),
        (["--webhook", "http://h:99999"], "--webhook takes http(s)://"),
    ],
)
def test_what_the_command_cannot_use_is_said_before_anything_is_read(words, told, monkeypatch):
    monkeypatch.setenv("GROUNDSWELL_WEBHOOK_SECRET", SECRET.decode())
    result = CliRunner().invoke(app, ["run", *words])
    assert isinstance(result.exception, SettingsError)
    assert told in str(result.exception)
    assert "geheim" not in str(result.exception)


def test_a_webhook_without_a_secret_is_refused(monkeypatch):
    monkeypatch.delenv("GROUNDSWELL_WEBHOOK_SECRET", raising=False)
    result = CliRunner().invoke(app, ["run", "--webhook", "http://127.0.0.1:1"])
    assert isinstance(result.exception, SettingsError)
    assert str(result.exception).startswith(
        "GROUNDSWELL_WEBHOOK_SECRET must have 16 characters or more, got 0"
    )


def test_each_channel_has_a_group_of_its_own_and_receipts_go_to_the_first_feedback_topic():
    settings = Settings(topic_prefix="p-", reward_sources="second-name, a-name")
    routes = [route_of(settings, channel) for channel in ("email", "push", None)]
    assert [route.group.removeprefix("p-groundswell-sender-") for route in routes] == [
        "email",
        "push",
        "all",
    ]
    assert {route.receipts for route in routes} == {"p-second-name"}
    with pytest.raises(SettingsError, match="names no topic"):
        route_of(Settings(reward_sources=""), None)
