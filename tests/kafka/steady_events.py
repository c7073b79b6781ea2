"""Events at a steady rate, from a process of their own: what reads the answers delays none."""

import gc
import multiprocessing
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

from confluent_kafka import Producer

from schemas.hashing import partition_of
from schemas.records import UserEvent
from schemas.wire import Codec
from streams.core.profiles import event_key

__all__ = ["TRIGGER", "Event", "Plan", "SteadyEvents"]

TRIGGER = "cart-abandoned"
ANSWER_S = 60.0

Event = tuple[str, int, float]  # user, event key, when it was due by the machine's steady clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is produced where.

    Attributes
    ----------
    topic
        The full name of the topic.
    partitions
        As many as it has.
    rate
        Events a second.
    """

    bootstrap: str
    topic: str
    partitions: int
    users: Sequence[str]
    rate: float


class SteadyEvents:
    """Events that come at their times, whether or not earlier ones were answered."""

    def __init__(self, plan: Plan) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._told, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_run, args=(plan, theirs), daemon=True)
        self._theirs = theirs

    def start(self) -> None:
        """Begin; returns once the process can produce."""
        self._process.start()
        self._theirs.close()
        self._receive(ANSWER_S)

    def assert_sound(self) -> None:
        """It still produces."""
        if self._told.poll():
            self._receive(0)
        assert self._process.is_alive(), "the events have stopped"

    def stop(self) -> tuple[list[Event], float]:
        """End it; what was produced, and by how many seconds it was late at most."""
        self._told.send("stop")
        found: tuple[list[Event], float] = self._receive(ANSWER_S)
        self._process.join(ANSWER_S)
        return found

    def end(self) -> None:
        """End it, whatever it does."""
        if self._process.is_alive():
            self._process.kill()
            self._process.join(ANSWER_S)

    def _receive(self, seconds: float) -> tuple[list[Event], float]:
        assert self._told.poll(seconds), "the process of the events does not answer"
        try:
            found = self._told.recv()
        except EOFError:
            raise AssertionError("the process of the events has ended") from None
        assert not isinstance(found, str), found
        return found  # type: ignore[no-any-return]


def _run(plan: Plan, told: Connection) -> None:
    try:
        told.send(_produce(plan, told))
    except BaseException:  # noqa: BLE001 - told where the load runs
        told.send(traceback.format_exc())


def _produce(plan: Plan, told: Connection) -> tuple[list[Event], float]:
    """Produce until told to stop.

    Python's collector rests meanwhile: nothing here has a cycle, and to look through all that was
    produced would stop the events for as long as a tenth of a second.
    """
    gc.disable()
    producer = Producer({"bootstrap.servers": plan.bootstrap, "linger.ms": 0, "acks": "all"})
    producer.list_topics(plan.topic, timeout=30)  # connected
    codec = Codec()
    partitions = [partition_of(user, plan.partitions) for user in plan.users]
    events: list[Event] = []
    late_s = 0.0
    told.send(None)  # ready
    began = time.perf_counter()
    while not told.poll():
        rank = len(events)
        due = began + rank / plan.rate
        if (left := due - time.perf_counter()) > 0:
            time.sleep(left)
        late_s = max(late_s, time.perf_counter() - due)
        place = rank % len(plan.users)
        user = plan.users[place]
        event = UserEvent(
            user_id=user,
            type=TRIGGER,
            occurred_at_ms=int(time.time() * 1000),
            event_id=f"cart-{rank}",
        )
        events.append((user, event_key(event), due))
        producer.produce(plan.topic, codec.encode("", event), user, partitions[place])
        producer.poll(0)
    assert producer.flush(30) == 0
    return events, late_s
