"""Fetch sessions against a real broker: what is read, and that it is read in sessions."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from confluent_kafka import Producer
from confluent_kafka.admin import NewTopic

from streams.kafka.fetch_sessions import FetchSessions

PARTITIONS = 12
ROUNDS = 30


@pytest.fixture
def topic(kafka, namespace) -> str:
    name = namespace + "read"
    kafka.admin.create_topics([NewTopic(name, PARTITIONS, 1)])[name].result()
    return name


@pytest.fixture
def write(kafka, topic) -> Callable[..., None]:
    """Write to one partition in a transaction; its end is a record more."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic})
    producer.init_transactions(30)

    def write(partition: int, value: bytes, *, abort: bool = False) -> None:
        producer.begin_transaction()
        producer.produce(topic, value, partition=partition)
        producer.flush(10)
        if abort:
            producer.abort_transaction(10)
        else:
            producer.commit_transaction(10)

    return write


class Reader:
    def __init__(self, bootstrap: str) -> None:
        self.client = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=50,
        )
        self.sessions = FetchSessions(self.client._client)
        self.named: list[int] = []  # partitions in each request
        send = self.sessions._send

        async def counted(node: int, request: Any, **options: Any) -> Any:
            answer = await send(node, request, **options)
            if type(request).__name__ == "_SessionRequest":
                self.named.append(sum(len(partitions) for _, partitions in request._topics))
            return answer

        self.sessions._send = counted

    async def values(self, count: int) -> list[bytes]:
        found: list[bytes] = []
        async with asyncio.timeout(20):
            while len(found) < count:
                for records in (await self.client.getmany(timeout_ms=100)).values():
                    found += [record.value for record in records]
        return found


@asynccontextmanager
async def reading(bootstrap: str, places: list[TopicPartition]) -> AsyncIterator[Reader]:
    reader = Reader(bootstrap)
    await reader.client.start()
    try:
        reader.client.assign(places)
        await reader.client.seek_to_beginning(*places)
        yield reader
    finally:
        await reader.client.stop()


@pytest.fixture
def read(kafka, topic) -> Callable[[Callable[..., Awaitable[None]]], None]:
    """Run what reads a topic from its beginning: it is given a reader and the partitions."""

    async def run(course: Callable[..., Awaitable[None]]) -> None:
        places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        async with reading(kafka.bootstrap, places) as reader:
            await course(reader, places)

    return lambda course: asyncio.run(run(course))


def test_all_that_is_committed_is_read_in_a_session_that_names_what_moved(read, write):
    async def course(reader: Reader, places: list[TopicPartition]) -> None:
        for number in range(ROUNDS):
            partition = number % PARTITIONS
            await asyncio.to_thread(write, partition, b"no", abort=True)
            await asyncio.to_thread(write, partition, b"%d" % number)
            assert await reader.values(1) == [b"%d" % number]
        reader.client.pause(places[0])  # it leaves the session, and comes back
        await asyncio.to_thread(write, 0, b"paused")
        await asyncio.to_thread(write, 1, b"beside")
        assert await reader.values(1) == [b"beside"]
        reader.client.resume(places[0])
        assert await reader.values(1) == [b"paused"]
        reader.client.seek(places[1], 2)  # behind the first aborted record and its end
        again = await reader.values(ROUNDS // PARTITIONS + 1)
        assert again[0] == b"1"
        assert again[-1] == b"beside"
        (session,) = reader.sessions._sessions.values()
        assert session.id != 0
        assert session.epoch > ROUNDS
        assert reader.named[0] == PARTITIONS
        assert sum(reader.named) < 4 * len(reader.named), "most requests name few"

    read(course)


def test_every_partition_is_known_to_stand_at_its_end_while_nothing_comes(read, write):
    async def course(reader: Reader, places: list[TopicPartition]) -> None:
        def looked_at() -> list[int]:
            return [reader.client.last_poll_timestamp(place) or 0 for place in places]

        await asyncio.to_thread(write, 3, b"one")
        assert await reader.values(1) == [b"one"]
        before = looked_at()
        async with asyncio.timeout(10):
            while not all(now > then for now, then in zip(looked_at(), before, strict=True)):
                await reader.client.getmany(timeout_ms=50)
        ends = [reader.client.last_stable_offset(place) for place in places]
        assert ends == [2 if number == 3 else 0 for number in range(PARTITIONS)]

    read(course)


def test_a_session_that_the_broker_forgot_is_made_again_and_nothing_is_missed(read, write):
    async def course(reader: Reader, _: list[TopicPartition]) -> None:
        await asyncio.to_thread(write, 5, b"one")
        assert await reader.values(1) == [b"one"]
        (session,) = reader.sessions._sessions.values()
        session.id += 1  # of a session that the broker has never made
        await asyncio.to_thread(write, 6, b"two")
        assert await reader.values(1) == [b"two"]
        session.epoch += 5
        await asyncio.to_thread(write, 7, b"three")
        assert await reader.values(1) == [b"three"]

    read(course)
