"""What stands under which key in a shard's state.

======================================  ===================================================
user shard
``p`` user                              profile
``l`` user                              ledger: open and correctable decisions, and when it was sent
                                        what
``w`` campaign, wave                    how far the wave has come here (`Course`)
``k`` campaign, wave                    what it is pinned to (`WaveStart`)
``m`` campaign, wave, number            the users that it lists, in blocks
``a`` campaign, wave                    marks a wave that still has users to decide for
``d`` campaign, wave                    marks a wave of which nothing is left: not to start again
``t`` time, what, user, decision        what is to be done at a time: close, forget, or end a rest;
                                        and the others for which it is to be done then
``g`` campaign                          its waves that decide when an event comes (`Triggering`)
``q`` campaign, time, event, user       an event that waits for the policy that decides
``x`` user, campaign                    until when events of the user trigger nothing: milliseconds
``o`` campaign, wave                    what is to be told of a wave learned in parts (`Gathering`)
``r`` campaign, wave, number            its examples that are not summed up yet (`Rows`)
``s`` campaign, wave, rank, template    its sums by half-life and template (`Sums`)
ingest shard
``v``                                   up to when the company's topics were ingested: milliseconds
campaign shard
``c`` campaign                          definition and course (`CampaignState`)
``y`` campaign                          the users that it lists
``b`` campaign[@release][#part]         the newest policy (`PolicySnapshot`)
``n`` campaign, wave, shard             how many of its examples the newest policy contains
``v`` campaign, wave                    a triggered campaign's wave that has ended (`WaveState`)
``u`` campaign, wave, shard, offset     an update that no snapshot contains yet
======================================  ===================================================
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

import msgspec

from streams.core.ledger import Ledger
from streams.core.profiles import Profile

__all__ = [
    "CLOSE",
    "FORGET",
    "REST",
    "State",
    "Timer",
    "Trigger",
    "Triggering",
    "active_key",
    "base_key",
    "campaign_key",
    "done_key",
    "due_of",
    "dumped",
    "ended_key",
    "ended_prefix",
    "learned_key",
    "learned_prefix",
    "ledger_key",
    "load",
    "load_ledger",
    "loaded",
    "profile_key",
    "put_timers",
    "read_learned",
    "read_timers",
    "read_waiting",
    "rest_key",
    "store",
    "timer_key",
    "triggering_key",
    "update_key",
    "update_prefix",
    "waiting_key",
    "waiting_prefix",
    "wave_key",
]

S = TypeVar("S")

CLOSE = b"c"
FORGET = b"f"
REST = b"r"
TOGETHER = 1000  # decisions under one timer's key

_TIME = struct.Struct(">q")
_UPDATE = struct.Struct(">iiq")
_WAVE = struct.Struct(">i")
_LEARNED = struct.Struct(">ii")
_WAITING = struct.Struct(">qQ")


class State(Protocol):
    """What a transaction offers for reading and changing state."""

    def get(self, key: bytes) -> bytes | None: ...  # noqa: D102
    def put(self, key: bytes, value: bytes) -> None: ...  # noqa: D102
    def delete(self, key: bytes) -> None: ...  # noqa: D102
    def scan(  # noqa: D102
        self, prefix: bytes, after: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]: ...


class Triggering(msgspec.Struct, array_like=True):
    """A triggered campaign in one user shard.

    Attributes
    ----------
    event
        The type of event that it waits for.
    waves
        Those that may decide, the newest last: an older one does until the policy of a newer one
        has arrived.
    """

    event: str
    waves: list[int]


class Trigger(msgspec.Struct, frozen=True):
    """An event that asks for a decision: its user, what tells it apart, and when it occurred."""

    user: str
    event: int
    at_ms: int


class Timer(msgspec.Struct, array_like=True):
    """What is to be done, at what time, for one decision."""

    due_ms: int
    what: bytes
    user: str
    decision_id: str


_encode = msgspec.msgpack.Encoder().encode
_others = msgspec.msgpack.Decoder(list[tuple[str, str]]).decode
_decoders: dict[type, msgspec.msgpack.Decoder] = {  # type: ignore[type-arg]
    kind: msgspec.msgpack.Decoder(kind) for kind in (Profile, Ledger, Triggering)
}


def load(state: State, key: bytes, kind: type[S]) -> S | None:
    """What stands under a key."""
    raw = state.get(key)
    return None if raw is None else loaded(raw, kind)


def loaded(raw: bytes, kind: type[S]) -> S:
    """What state's bytes say."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)
    value: S = decoder.decode(raw)
    return value


def load_ledger(state: State, user: str, profile: Profile) -> Ledger:
    """A user's ledger; what it knows of sends is put into the profile."""
    ledger = load(state, ledger_key(user), Ledger) or Ledger()
    profile.sends, profile.sent_at = ledger.sends, ledger.sent_at
    return ledger


def store(state: State, key: bytes, value: object) -> None:
    """Put something under a key."""
    state.put(key, _encode(value))


def dumped(value: object) -> bytes:
    """The bytes of something as state keeps it."""
    return _encode(value)


def profile_key(user: str) -> bytes:
    """Key of a profile."""
    return b"p" + user.encode()


def ledger_key(user: str) -> bytes:
    """Key of a ledger."""
    return b"l" + user.encode()


def wave_key(campaign_id: str, wave: int) -> bytes:
    """Key of a running wave."""
    return b"w" + campaign_id.encode() + b"\0" + _WAVE.pack(wave)


def active_key(campaign_id: str, wave: int) -> bytes:
    """Key of the mark of a wave that still decides."""
    return b"a" + wave_key(campaign_id, wave)[1:]


def done_key(campaign_id: str, wave: int) -> bytes:
    """Key of the mark of a wave of which nothing is left."""
    return b"d" + wave_key(campaign_id, wave)[1:]


def triggering_key(campaign_id: str) -> bytes:
    """Key of a triggered campaign."""
    return b"g" + campaign_id.encode()


def rest_key(user: str, campaign_id: str) -> bytes:
    """Key of the time until which a user's events trigger nothing of a campaign."""
    return b"x" + user.encode() + b"\0" + campaign_id.encode()


def waiting_prefix(campaign_id: str) -> bytes:
    """Prefix of the events that wait for a campaign's policy."""
    return b"q" + campaign_id.encode() + b"\0"


def waiting_key(campaign_id: str, trigger: Trigger) -> bytes:
    """Key of such an event: in order of time."""
    when = _WAITING.pack(trigger.at_ms, trigger.event)
    return waiting_prefix(campaign_id) + when + trigger.user.encode()


def read_waiting(key: bytes) -> Trigger:
    """Take such a key apart."""
    at = key.index(b"\0") + 1  # no name of a campaign holds a zero
    at_ms, event = _WAITING.unpack_from(key, at)
    return Trigger(key[at + _WAITING.size :].decode(), event, at_ms)


def campaign_key(campaign_id: str) -> bytes:
    """Key of a campaign's state."""
    return b"c" + campaign_id.encode()


def base_key(campaign_id: str) -> bytes:
    """Key of a campaign's newest policy."""
    return b"b" + campaign_id.encode()


def learned_prefix(campaign_id: str) -> bytes:
    """Prefix of what a campaign's policies contain."""
    return b"n" + campaign_id.encode() + b"\0"


def learned_key(campaign_id: str, wave: int, shard: int) -> bytes:
    """Key of how many examples of a wave and shard they contain."""
    return learned_prefix(campaign_id) + _LEARNED.pack(wave, shard)


def read_learned(key: bytes) -> tuple[int, int]:
    """Wave and shard of such a key."""
    wave, shard = _LEARNED.unpack_from(key, len(key) - _LEARNED.size)
    return wave, shard


def ended_prefix(campaign_id: str) -> bytes:
    """Prefix of a triggered campaign's waves that have ended."""
    return b"v" + campaign_id.encode() + b"\0"


def ended_key(campaign_id: str, wave: int) -> bytes:
    """Key of such a wave."""
    return ended_prefix(campaign_id) + _WAVE.pack(wave)


def update_prefix(campaign_id: str) -> bytes:
    """Prefix of a campaign's updates that no snapshot contains yet."""
    return b"u" + campaign_id.encode() + b"\0"


def update_key(campaign_id: str, wave: int, shard: int, offset: int) -> bytes:
    """Key of such an update: in the order in which they are learned."""
    return update_prefix(campaign_id) + _UPDATE.pack(wave, shard, offset)


def timer_key(due_ms: int, what: bytes, user: str, decision_id: str) -> bytes:
    """Key of a timer: in order of time."""
    return b"t" + _TIME.pack(due_ms) + what + user.encode() + b"\0" + decision_id.encode()


def put_timers(
    state: State, due_ms: int, what: bytes, decisions: Sequence[tuple[str, str]]
) -> None:
    """Have something done at a time for decisions, each a user and an id: one record for many.

    What stands under the key of the first stays: a decision that is made again, as its event came
    again after it was forgotten, brings others with it, or none.
    """
    for first in range(0, len(decisions), TOGETHER):
        (user, decision_id), *others = decisions[first : first + TOGETHER]
        key = timer_key(due_ms, what, user, decision_id)
        known = state.get(key)
        if known:
            others = [*_others(known), *others]
        state.put(key, _encode(others) if others else b"")


def due_of(key: bytes) -> int:
    """When what stands under a timer's key is due, in milliseconds."""
    due_ms: int = _TIME.unpack_from(key, 1)[0]
    return due_ms


def read_timers(key: bytes, raw: bytes) -> list[Timer]:
    """Take what stands under a timer's key apart."""
    due_ms, what = due_of(key), key[9:10]
    user, _, decision_id = key[10:].rpartition(b"\0")
    others = _others(raw) if raw else []
    return [
        Timer(due_ms, what, user.decode(), decision_id.decode()),
        *(Timer(due_ms, what, *other) for other in others),
    ]
