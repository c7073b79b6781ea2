"""A fetch names what changed since the last one; what its answer leaves out is as it was."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import errors
from aiokafka.protocol import fetch as protocol

from streams.kafka.fetch_sessions import FetchSessions

NODE = 1
FULL = 0  # the first epoch
VERSIONS = {number: getattr(protocol, f"FetchRequest_v{number}") for number in (4, 7, 8, 9, 10, 11)}


def ask(**positions: int) -> protocol.FetchRequest:
    """What aiokafka wants to fetch, by topic: partition 0 of each from an offset."""
    topics = [(topic, [(0, offset, 1000)]) for topic, offset in positions.items()]
    return protocol.FetchRequest(100, 1, 10_000, 1, topics)


def answer(
    *partitions: Any, session: int = 7, error: int = 0, version: int = 11, throttled_ms: int = 0
) -> Any:
    """A broker's answer: of each partition topic, end and records."""
    topics = [
        (topic, [(0, code, end, end, 0, [], *([-1] if version >= 11 else []), records)])
        for topic, end, records, code in partitions
    ]
    return SimpleNamespace(
        API_VERSION=version,
        error_code=error,
        session_id=session,
        topics=topics,
        throttle_time_ms=throttled_ms,
    )


class Broker:
    """Stands where aiokafka's client sends: notes what it is asked, and answers as it is told."""

    def __init__(self, *answers: Any, version: int = 11) -> None:
        self._answers = list(answers)
        self._version = version
        self.asked: list[Any] = []

    async def send(self, _node: int, request: Any, **_: Any) -> Any:
        if not isinstance(request, protocol.FetchRequest):
            return request
        struct = request.build(VERSIONS[self._version])
        struct.encode()
        self.asked.append(struct)
        given = self._answers.pop(0)
        if isinstance(given, BaseException):
            raise given
        return given


def named(struct: Any) -> dict[str, int]:
    """The topics that a request names, with the offset of their partition."""
    at = 2 if struct.API_VERSION >= 9 else 1
    return {topic: partitions[0][at] for topic, partitions in struct.topics}


def seen(response: Any) -> dict[str, tuple[int, Any]]:
    """Of each topic the end and the records that the fetcher is told."""
    return {topic: (parts[0][2], parts[0][-1]) for topic, parts in response.topics}


def fetch(broker: Broker, *requests: Any) -> list[Any]:
    FetchSessions(broker)

    async def run() -> list[Any]:
        return [await broker.send(NODE, request) for request in requests]

    return asyncio.run(run())


BOTH = (("a", 5, b"", 0), ("b", 9, b"", 0))


@pytest.mark.parametrize("version", [7, 8, 9, 10, 11])
def test_the_first_names_everything_and_the_next_what_moved(version):
    answers = [answer(*BOTH, version=version), *(answer(version=version) for _ in range(2))]
    broker = Broker(*answers, version=version)
    fetch(broker, ask(a=5, b=9), ask(a=5, b=9), ask(a=6, b=9))
    assert [named(one) for one in broker.asked] == [{"a": 5, "b": 9}, {}, {"a": 6}]
    assert [(one.session_id, one.session_epoch) for one in broker.asked] == [(0, 0), (7, 1), (7, 2)]
    assert all(one.forgotten_topics_data == [] for one in broker.asked)


@pytest.mark.parametrize("version", [7, 11])
def test_what_an_answer_leaves_out_is_told_as_it_was_without_records(version):
    first = answer(("a", 5, b"x", 0), ("b", 9, b"y", 0), version=version)
    second = answer(("b", 11, b"z", 0), version=version)
    broker = Broker(first, second, version=version)
    found = fetch(broker, ask(a=4, b=8), ask(a=5, b=9))
    assert seen(found[0]) == {"a": (5, b"x"), "b": (9, b"y")}
    assert seen(found[1]) == {"b": (11, b"z"), "a": (5, b"")}
    shapes = {len(partitions[0]) for _, partitions in found[1].topics}
    assert len(shapes) == 1, "both look alike to the fetcher"


def test_an_answer_of_a_broker_over_its_quota_tells_nothing_of_what_it_leaves_out():
    broker = Broker(
        answer(*BOTH), answer(throttled_ms=50), answer(), answer(*BOTH, throttled_ms=50)
    )
    found = fetch(broker, ask(a=5, b=9), *[ask(a=6, b=9)] * 3)
    assert [set(seen(one)) for one in found] == [{"a", "b"}, set(), {"a", "b"}, {"a", "b"}]
    assert [named(one) for one in broker.asked] == [{"a": 5, "b": 9}, {"a": 6}, {}, {}]
    assert [one.session_epoch for one in broker.asked] == [0, 1, 2, 3]


def test_what_is_not_wanted_now_is_forgotten_and_told_anew_later():
    broker = Broker(answer(*BOTH), answer(), answer(("b", 9, b"", 0)))
    found = fetch(broker, ask(a=5, b=9), ask(a=5), ask(a=5, b=9))
    assert broker.asked[1].forgotten_topics_data == [("b", [0])]
    assert seen(found[1]) == {"a": (5, b"")}
    assert named(broker.asked[2]) == {"b": 9}
    assert set(seen(found[2])) == {"a", "b"}


def test_an_error_of_a_partition_is_told_once():
    broker = Broker(answer(*BOTH), answer(("a", -1, b"", 6)), answer(), answer(("a", 5, b"", 0)))
    found = fetch(broker, *[ask(a=5, b=9)] * 4)
    assert [set(seen(one)) for one in found] == [{"a", "b"}, {"a", "b"}, {"b"}, {"a", "b"}]


@pytest.mark.parametrize(("code", "ended"), [(70, 0), (71, 7)])  # unknown id, wrong epoch
def test_a_session_that_the_broker_has_lost_is_begun_anew_at_once(code, ended):
    broker = Broker(answer(*BOTH), answer(error=code), answer(*BOTH, session=8), answer(session=8))
    found = fetch(broker, ask(a=5, b=9), ask(a=5, b=9), ask(a=5, b=9))
    assert [(one.session_id, one.session_epoch) for one in broker.asked] == [
        (0, 0),
        (7, 1),
        (ended, 0),
        (8, 1),
    ]
    assert named(broker.asked[2]) == {"a": 5, "b": 9}
    assert set(seen(found[1])) == {"a", "b"}


@pytest.mark.parametrize("failure", [errors.KafkaConnectionError("away"), asyncio.CancelledError()])
def test_after_a_fetch_that_got_no_answer_everything_is_named_and_the_old_session_ends(failure):
    broker = Broker(answer(*BOTH), failure, answer(*BOTH, session=8))
    FetchSessions(broker)

    async def run() -> None:
        await broker.send(NODE, ask(a=5, b=9))
        with pytest.raises(type(failure)):
            await broker.send(NODE, ask(a=6, b=9))
        await broker.send(NODE, ask(a=6, b=9))

    asyncio.run(run())
    assert named(broker.asked[2]) == {"a": 6, "b": 9}
    assert (broker.asked[2].session_id, broker.asked[2].session_epoch) == (7, FULL)


def test_a_broker_without_room_for_a_session_is_asked_for_everything():
    broker = Broker(*[answer(*BOTH, session=0) for _ in range(2)])
    fetch(broker, ask(a=5, b=9), ask(a=5, b=9))
    assert [named(one) for one in broker.asked] == [{"a": 5, "b": 9}] * 2
    assert [one.session_epoch for one in broker.asked] == [FULL, FULL]


def test_a_broker_that_knows_no_sessions_is_asked_for_everything():
    broker = Broker(*[answer(*BOTH, version=4) for _ in range(2)], version=4)
    found = fetch(broker, ask(a=5, b=9), ask(a=5, b=9))
    assert [len(one.topics) for one in broker.asked] == [2, 2]
    assert [set(seen(one)) for one in found] == [{"a", "b"}] * 2


def test_what_the_broker_has_against_the_whole_fetch_is_raised():
    broker = Broker(answer(*BOTH), answer(error=29), answer(*BOTH))
    FetchSessions(broker)

    async def run() -> None:
        await broker.send(NODE, ask(a=5, b=9))
        with pytest.raises(errors.TopicAuthorizationFailedError):
            await broker.send(NODE, ask(a=5, b=9))
        await broker.send(NODE, ask(a=5, b=9))

    asyncio.run(run())
    assert named(broker.asked[2]) == {"a": 5, "b": 9}


def test_a_session_that_no_request_can_begin_is_an_error_not_a_loop():
    broker = Broker(answer(error=70))
    with pytest.raises(errors.FetchSessionIdNotFound):
        fetch(broker, ask(a=5))


def test_epochs_go_round():
    broker = Broker(answer(*BOTH), answer(), answer())
    sessions = FetchSessions(broker)

    async def run() -> None:
        await broker.send(NODE, ask(a=5, b=9))
        sessions._sessions[NODE].epoch = 2**31 - 1
        await broker.send(NODE, ask(a=5, b=9))
        await broker.send(NODE, ask(a=5, b=9))

    asyncio.run(run())
    assert [one.session_epoch for one in broker.asked] == [0, 2**31 - 1, 1]


def test_each_broker_has_a_session_of_its_own():
    broker = Broker(answer(*BOTH), answer(*BOTH, session=8))
    FetchSessions(broker)

    async def run() -> None:
        await broker.send(1, ask(a=5))
        await broker.send(2, ask(b=9))

    asyncio.run(run())
    assert [one.session_epoch for one in broker.asked] == [FULL, FULL]
    assert named(broker.asked[1]) == {"b": 9}


def test_other_requests_go_as_they_are():
    (found,) = fetch(Broker(), "heartbeat")
    assert found == "heartbeat"
