"""Incremental fetch sessions (KIP-227) for aiokafka: a fetch names what changed since the last.

aiokafka names all of a consumer's partitions in each fetch, and the broker answers for each: of a
worker's thirty partitions one or two have something new. In a session the broker remembers what
was asked of it, and leaves out of its answer what is as it was: no new records, the same end. An
answer is completed here, so that the fetcher sees all partitions as ever.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from aiokafka import errors
from aiokafka.protocol.fetch import FetchRequest

__all__ = ["FetchSessions", "fits_aiokafka"]

FIRST_VERSION = 7  # of the fetch API
REPLICA_VERSION = 11  # an answer names a preferred replica too
NEW = 0  # the epoch of a request for a session, which ends the one that it names
LAST_EPOCH = 2**31 - 1
LOST = (errors.FetchSessionIdNotFound, errors.InvalidFetchSessionEpoch)

Place = tuple[str, int]


class FetchSessions:
    """Makes a session with each broker of what a client fetches.

    Parameters
    ----------
    client
        An `AIOKafkaClient`; its `send` is replaced. Its user has one fetch under way to a broker.
    """

    def __init__(self, client: Any) -> None:
        self._send = client.send
        self._sessions: defaultdict[int, _Session] = defaultdict(_Session)
        client.send = self.send

    async def send(self, node_id: int, request: Any, **options: Any) -> Any:
        """Send a request as the client does; a fetch in the broker's session.

        Raises
        ------
        aiokafka.errors.KafkaError
            As the client does, or what the broker has against the fetch as a whole.
        """
        if type(request) is not FetchRequest:
            return await self._send(node_id, request, **options)
        session = self._sessions[node_id]
        while True:
            fresh = session.epoch == NEW
            try:
                response = await self._send(node_id, _SessionRequest(request, session), **options)
            except BaseException:  # cancelled too: whether the broker has heard of it is not known
                session.restart()
                raise
            if response.API_VERSION < FIRST_VERSION:
                return response
            error = errors.for_code(response.error_code)
            if error is errors.NoError:
                session.complete(response)
                return response
            session.restart()
            if error is errors.FetchSessionIdNotFound:
                session.id = 0  # there is none to end
            if fresh or error not in LOST:
                raise error


class _Session:
    """What one broker was asked, and what it said of each partition last."""

    def __init__(self) -> None:
        self.id = 0
        self.epoch = NEW
        self._asked: dict[Place, tuple[int, int]] = {}  # offset, most bytes
        self._told: dict[Place, tuple[Any, ...]] = {}  # an answer without records

    def restart(self) -> None:
        """Begin anew with the next request, which names everything."""
        self.epoch = NEW
        self._asked = {}
        self._told = {}

    def ask(self, wanted: dict[Place, tuple[int, int]]) -> tuple[list[Place], list[Place]]:
        """Note what is asked; give the places that the broker is to be told of, and to forget."""
        changed = [place for place, what in wanted.items() if self._asked.get(place) != what]
        forgotten = [place for place in self._asked if place not in wanted]
        for place in forgotten:
            self._told.pop(place, None)
        self._asked = wanted
        return changed, forgotten

    def complete(self, response: Any) -> None:
        """Take an answer, and add the partitions that are as they were."""
        self.id = response.session_id
        if not self.id:  # the broker has no room for it: it answered for everything
            self.restart()
            return
        self.epoch = self.epoch + 1 if self.epoch < LAST_EPOCH else 1
        if response.throttle_time_ms and not response.topics:
            return  # a broker over its quota looks at nothing: what it leaves out may have moved
        answered = set()
        empty: tuple[Any, ...] = (
            ([], -1, b"") if response.API_VERSION >= REPLICA_VERSION else ([], b"")
        )
        for topic, partitions in response.topics:
            for partition, error_code, *ends in partitions:
                place = topic, partition
                answered.add(place)
                if error_code:
                    self._told.pop(place, None)  # it is told again once that is over
                else:  # high watermark, last stable offset, first offset
                    self._told[place] = (partition, 0, *ends[:3], *empty)
        same = (place for place in self._asked if place not in answered and place in self._told)
        response.topics += [
            (topic, [self._told[topic, partition] for partition in partitions])
            for topic, partitions in _by_topic(same)
        ]


class _SessionRequest(FetchRequest):
    """A fetch that names what is new in its session; to an old broker, everything."""

    _topics: Any

    def __init__(self, whole: Any, session: _Session) -> None:
        self.__dict__.update(vars(whole))
        self._session = session

    def build(self, request_struct_class: Any) -> Any:
        """Make the request of the version that the broker speaks: the moment before it is sent."""
        if request_struct_class.API_VERSION < FIRST_VERSION:
            return super().build(request_struct_class)
        wanted = {
            (topic, partition): (offset, most_bytes)
            for topic, partitions in self._topics
            for partition, offset, most_bytes in partitions
        }
        changed, forgotten = self._session.ask(wanted)
        self._topics = [
            (topic, [(partition, *wanted[topic, partition]) for partition in partitions])
            for topic, partitions in _by_topic(changed)
        ]
        request = super().build(request_struct_class)
        request.session_id, request.session_epoch = self._session.id, self._session.epoch
        request.forgotten_topics_data = _by_topic(forgotten)
        return request


def fits_aiokafka() -> bool:
    """Whether aiokafka's fetches are made of what is taken from them here."""
    return "_topics" in vars(FetchRequest(0, 1, 1, 0, []))


def _by_topic(places: Iterable[Place]) -> list[tuple[str, list[int]]]:
    found: defaultdict[str, list[int]] = defaultdict(list)
    for topic, partition in places:
        found[topic].append(partition)
    return list(found.items())
