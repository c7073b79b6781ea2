"""What a shard sends on ahead of its commits: in order, and once for whoever reads it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from confluent_kafka import KafkaException, Producer
from msgspec.structs import replace as replaced

from schemas.errors import BusError, FencedError, ShardError
from schemas.topics import DEAD_LETTERS, USER_EVENTS
from streams.kafka.cluster import Cluster
from streams.kafka.forwarder import Forwarder
from streams.kafka.origin import unrepeated
from streams.kafka.read import read_all
from streams.kafka.shard import Shard
from streams.kafka.transaction import Incoming, Output, Transaction
from tests.kafka.shard_bench import Bench
from tests.kafka.test_shard import count, counts

SOURCE = "orders"


class Sources(Bench):
    """A shard that sends on; the topic that it sends to is a user shard's."""

    def __init__(self, kafka, prefix, directory) -> None:
        super().__init__(kafka, prefix, directory)
        self.users = self.kind
        self.source = prefix + SOURCE
        self.make(SOURCE, {})
        self.make("sources-changelog", {"cleanup.policy": "compact"})
        self.sources = replace(
            self.kind,
            name="sources",
            inputs=(self.source,),
            timed=(self.source,),
            changelog=replace(self.kind.changelog, name="sources-changelog"),
            takes_turns=False,
            forwards=True,
        )

    def open_source(self, directory: str = "a") -> Shard:
        self.kind = self.sources
        return self.open(directory)

    def open_users(self, directory: str = "a") -> Shard:
        self.kind = self.users
        return self.open(directory)

    def batch(self, first: int, keys: str) -> list[Incoming]:
        return [
            Incoming(self.source, 0, first + rank, 0, key.encode(), key.encode())
            for rank, key in enumerate(keys)
        ]

    def sent_on(self) -> list[Incoming]:
        return list(read_all(Cluster(self.kafka.bootstrap), self.input))

    def keys(self, records: Sequence[Incoming]) -> str:
        return b"".join(record.key or b"" for record in records).decode()

    def aside(self) -> str:
        letters = read_all(Cluster(self.kafka.bootstrap), self.prefix + DEAD_LETTERS.name)
        return self.keys(list(letters))


@pytest.fixture
def bench(kafka, namespace, tmp_path):
    return Sources(kafka, namespace, tmp_path)


def refusing(keys: str) -> Callable[[Transaction, Sequence[Incoming]], None]:
    """Sends on what has none of these keys."""

    def handler(tx: Transaction, batch: Sequence[Incoming]) -> None:
        for record in batch:
            key = (record.key or b"").decode()
            if key in keys:
                tx.dead_letter(record, "refused")
            else:
                tx.forward(USER_EVENTS, record, key)
            tx.saw(record.topic, 1000 + record.offset, 10_000)

    return handler


everything = refusing("")


def refusing_all(tx: Transaction, batch: Sequence[Incoming]) -> None:
    for record in batch:
        tx.dead_letter(record, "refused")


def test_what_was_sent_on_is_read_at_once_and_kept_when_the_shard_is_let_go(bench):
    shard = bench.open_source()
    assert shard.apply(bench.source, bench.batch(0, "abc"), everything)
    assert bench.keys(bench.sent_on()) == "abc"
    assert shard.applied(bench.source) == 2
    shard.close()
    again = bench.open_source()
    assert (again.applied(bench.source), again.now_ms) == (2, 1002)
    assert again.apply(bench.source, bench.batch(0, "abcd"), everything)
    assert bench.keys(bench.sent_on()) == "abcd"


def test_how_far_it_came_is_kept_once_it_is_time(bench, monkeypatch):
    shard = bench.open_source()
    shard.apply(bench.source, bench.batch(0, "abc"), everything)
    monkeypatch.setattr("streams.kafka.shard.PROGRESS_S", 60.0)
    assert shard.work_on([], 0) == (0, False)
    assert bench.open_source("other").applied(bench.source) == -1
    shard = bench.open_source("third")
    shard.apply(bench.source, bench.batch(0, "abc"), everything)
    monkeypatch.setattr("streams.kafka.shard.PROGRESS_S", 0.0)
    shard.work_on([], 0)
    assert bench.open_source("fourth").applied(bench.source) == 2


def test_a_kill_sends_on_again_and_a_user_shard_takes_each_once(bench):
    killed = bench.open_source("killed")
    killed.apply(bench.source, bench.batch(0, "aabc"), everything)
    users = bench.open_users()
    users.apply(bench.input, bench.sent_on(), count)
    heir = bench.open_source("heir")
    heir.apply(bench.source, bench.batch(0, "aab"), everything)
    heir.apply(bench.source, bench.batch(3, "ca"), everything)
    records = bench.sent_on()
    assert bench.keys(records) == "aabc" + "aab" + "ca"
    assert bench.keys(list(unrepeated(records))) == "aabca"
    for rank in range(4, len(records), 2):
        users.apply(bench.input, records[rank : rank + 2], count)
    assert counts(users) == {"a": 3, "b": 1, "c": 1}
    assert users.applied(bench.input) == len(records) - 1
    users.close()
    assert counts(bench.open_users("lost-disk")) == {"a": 3, "b": 1, "c": 1}


def test_an_owner_that_has_lost_its_shard_sends_nothing_that_counts_again(bench):
    old = bench.open_source("old")
    old.apply(bench.source, bench.batch(0, "ab"), everything)
    new = bench.open_source("new")
    new.apply(bench.source, bench.batch(0, "abcd"), everything)
    old.apply(bench.source, bench.batch(2, "cde"), everything)
    new.apply(bench.source, bench.batch(4, "ef"), everything)
    assert bench.keys(list(unrepeated(bench.sent_on()))) == "abcdef"
    with pytest.raises(FencedError, match="another owner"):
        old.apply(bench.source, bench.batch(5, "xf"), refusing("x"))
    assert bench.keys(list(unrepeated(bench.sent_on()))) == "abcdef"
    assert bench.aside() == ""
    old.close()  # tells nobody how far it came
    assert bench.open_source("third").applied(bench.source) == -1


def test_what_is_put_aside_is_so_once_and_stays_so_whatever_is_said_of_it_later(bench):
    killed = bench.open_source("killed")
    killed.apply(bench.source, bench.batch(0, "ab"), everything)
    killed.apply(bench.source, bench.batch(2, "xcyd"), refusing("xy"))
    heir = bench.open_source("heir")
    assert heir.applied(bench.source) == 1
    heir.apply(bench.source, bench.batch(2, "xc"), everything)
    heir.apply(bench.source, bench.batch(4, "ydz"), refusing("z"))
    third = bench.open_source("third")  # killed in front of the end of that batch, as it were
    assert third.applied(bench.source) == 3
    third.apply(bench.source, bench.batch(4, "ydze"), everything)
    assert bench.aside() == "xyz"
    assert bench.keys(list(unrepeated(bench.sent_on()))) == "abcde"


def test_what_was_sent_on_and_is_refused_after_a_kill_counts_once_and_is_put_aside(bench):
    killed = bench.open_source("killed")
    killed.apply(bench.source, bench.batch(0, "abc"), everything)
    heir = bench.open_source("heir")
    heir.apply(bench.source, bench.batch(0, "abcd"), refusing("b"))
    assert bench.keys(list(unrepeated(bench.sent_on()))) == "abcd"
    assert bench.aside() == "b"


def test_what_a_user_shard_put_aside_counts_when_it_is_put_back(bench):
    bench.open_source().apply(bench.source, bench.batch(0, "ab"), everything)
    users = bench.open_users()
    sent = bench.sent_on()
    users.apply(bench.input, sent, refusing_all)
    [first, second] = read_all(Cluster(bench.kafka.bootstrap), bench.prefix + DEAD_LETTERS.name)
    again = [
        replaced(one, topic=bench.input, offset=2 + at) for at, one in enumerate((first, second))
    ]
    users.apply(bench.input, [*sent, *again], count)
    assert counts(users) == {"a": 1, "b": 1}


def test_a_shard_whose_kind_sends_nothing_on_loses_nothing_in_silence(bench):
    bench.open_source().apply(bench.source, bench.batch(0, "a"), everything)
    users = bench.open_users()
    with pytest.raises(ShardError, match="its kind does not say so"):
        users.apply(bench.input, bench.sent_on(), everything)
    assert users.applied(bench.input) == -1


def test_time_does_not_come_ahead_of_what_is_sent_on(bench, monkeypatch):
    def fails(*_args: object) -> None:
        raise BusError("the broker is away")

    shard = bench.open_source("killed")
    shard.apply(bench.source, bench.batch(0, "a"), everything)
    monkeypatch.setattr(Forwarder, "send", fails)
    with pytest.raises(BusError):
        shard.apply(bench.source, bench.batch(1, "xb"), refusing("x"))
    heir = bench.open_source("heir")
    assert bench.aside() == "x"
    assert (heir.applied(bench.source), heir.now_ms) == (0, 1000)


@pytest.fixture
def small(bench):
    """A forwarder to a topic that takes no large record; what that holds."""
    bench.make("small", {"max.message.bytes": "2000"})
    topic = replace(USER_EVENTS, name="small")
    cluster = Cluster(bench.kafka.bootstrap)
    forwarder = Forwarder(cluster, "sources/0", bench.prefix)

    def send(*values: bytes) -> None:
        forwarder.send([Output(topic, b"", value, None, None) for value in values])

    def held() -> list[bytes | None]:
        return [record.value for record in read_all(cluster, bench.prefix + "small")]

    return forwarder, send, held


def test_behind_a_record_that_is_refused_nothing_is_sent(small):
    _, send, held = small
    send(b"first")
    with pytest.raises(BusError, match=r"refuses a record.*raise the topic's max.message.bytes"):
        send(b"-" * 4000, b"second")
    with pytest.raises(BusError):
        send(b"third")
    assert held() == [b"first"]


class Unclear:
    """A producer that ends with an exception that tells nothing, as confluent-kafka's may."""

    def __init__(self, producer: Producer, *, tells_first: bool) -> None:
        self._producer = producer
        self._silent = not tells_first

    def __getattr__(self, name: str) -> object:
        return getattr(self._producer, name)

    def flush(self, timeout: float) -> int:
        if self._silent:
            self._silent = False
            raise SystemError("returned NULL without setting an exception")
        try:
            return self._producer.flush(timeout)
        except (KafkaException, SystemError):
            raise SystemError("returned NULL without setting an exception") from None


@pytest.mark.parametrize("tells_first", [True, False])
def test_what_was_refused_is_told_whatever_is_raised_meanwhile(small, tells_first):
    forwarder, send, held = small
    send(b"first")
    forwarder._producer = Unclear(forwarder._producer, tells_first=tells_first)
    with pytest.raises(BusError, match=r"refuses a record.*raise the topic's max.message.bytes"):
        send(b"-" * 4000, b"second")
    with pytest.raises(BusError, match="refuses a record"):
        send(b"third")
    assert held() == [b"first"]


def test_a_record_that_no_producer_takes_is_not_passed_over(small):
    _, send, held = small
    with pytest.raises(BusError, match="refuses a record"):
        send(b"-" * (17 * 1024 * 1024), b"second")
    assert held() == []


class Slow:
    """A producer whose records are acknowledged one by one, until it stops."""

    def __init__(self, forwarder: Forwarder, left: int, stops_at: int) -> None:
        self._forwarder = forwarder
        self._left = left
        self._stops_at = stops_at

    def produce(self, *_: object, **__: object) -> None:
        pass

    def flush(self, timeout: float) -> int:
        time.sleep(min(0.2, timeout))
        if self._left > self._stops_at:
            self._left -= 1
            self._forwarder._note(None, None)
        return self._left


@pytest.mark.parametrize("stops_at", [0, 2])
def test_a_slow_broker_is_waited_for_as_long_as_it_acknowledges(monkeypatch, stops_at):
    monkeypatch.setattr("streams.kafka.forwarder.TIMEOUT_S", 0.5)
    forwarder = Forwarder(Cluster("127.0.0.1:1"), "sources/0", "")
    forwarder._producer = Slow(forwarder, 5, stops_at)
    outputs = [Output(USER_EVENTS, b"ann", b"", None, None)] * 5
    if stops_at == 0:
        forwarder.send(outputs)
    else:
        with pytest.raises(BusError, match=r"2 records .* none of them for 0\.5 s"):
            forwarder.send(outputs)


def test_brokers_that_do_not_answer_are_told_of(monkeypatch):
    monkeypatch.setattr("streams.kafka.forwarder.TIMEOUT_S", 0.5)
    forwarder = Forwarder(Cluster("127.0.0.1:1"), "sources/0", "")
    with pytest.raises(BusError, match=r"sources/0: 1 records .* were not acknowledged"):
        forwarder.send([Output(USER_EVENTS, b"ann", b"", None, None)])
