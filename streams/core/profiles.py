"""A user's profile: what events say of a person, folded one after the other, in any order."""

from collections.abc import Mapping
from operator import itemgetter
from typing import Protocol

import msgspec

from schemas.hashing import fallback_id, id_hash
from schemas.ids import AttributeValue
from schemas.records import UserEvent
from streams.core.segments import AttributeValue as StoredValue

__all__ = [
    "EVERYWHERE",
    "MOST_ACTIONS",
    "MOST_CHANNELS",
    "MOST_IDS",
    "MOST_KINDS",
    "MOST_SENDS",
    "UNSUBSCRIBE",
    "Profile",
    "Sent",
    "action_key",
    "event_key",
    "fold_event",
    "leave",
    "note_action",
    "note_kind",
    "note_send",
    "remember",
    "take_back_action",
    "take_back_send",
]

MOST_IDS = 256  # ids of events kept against repetition: the newest
MOST_KINDS = 256  # kinds of events counted: the first that came
MOST_SENDS = 64  # contact times kept, for caps: the newest
MOST_ACTIONS = 128  # templates whose last send is kept: the newest
MOST_CHANNELS = 64  # channels that a user left, each by its name; beyond them: everywhere
UNSUBSCRIBE = "unsubscribe"  # feedback after which a channel is left
EVERYWHERE = ""  # stands for all channels, in `left`


class Sent(Protocol):
    """What a user was sent.

    Attributes
    ----------
    sends
        When it was something, in milliseconds, newest last.
    sent_at
        By campaign and template (`action_key`), where the campaign minds repetition: when the
        user was sent it last, in milliseconds.
    """

    sends: list[int]
    sent_at: dict[str, int]


class Profile(msgspec.Struct, array_like=True, gc=False):
    """What is known of a user. State of a shard, as MessagePack.

    Attributes
    ----------
    attributes, attributes_at
        Values by name, and the event time in milliseconds at which each was set.
    contacts, contacts_at
        Contact references by channel, likewise.
    counts
        By kind of event: how often, and when last in milliseconds.
    left
        Channels that the user unsubscribed from: since when, in milliseconds. `EVERYWHERE` stands
        for all of them, whatever contacts come later.
    sends, sent_at
        What the user was sent (`Sent`). A shard keeps it in the user's ledger, which each decision
        writes, and puts it in where one is made: under the profile's key both are empty.
    seen
        Hashes of the ids of events that are contained, with their times.
    """

    attributes: dict[str, StoredValue] = {}
    attributes_at: dict[str, int] = {}
    contacts: dict[str, str] = {}
    contacts_at: dict[str, int] = {}
    counts: dict[str, tuple[int, int]] = {}
    left: dict[str, int] = {}
    sends: list[int] = []
    seen: dict[int, int] = {}
    sent_at: dict[str, int] = {}

    # ---- what a segment expression may ask (streams.core.segments.ProfileView)

    def event_count(self, event_type: str, /) -> int:
        """Events of a type that were counted."""
        return self.counts.get(event_type, (0, 0))[0]

    def last_event_ms(self, event_type: str, /) -> int | None:
        """When the last event of a type was, in milliseconds; None if there was none."""
        found = self.counts.get(event_type)
        return found[1] if found else None

    def unsubscribed(self, channel: str, /) -> bool:
        """Whether the user asked not to be reached there."""
        return channel in self.left or EVERYWHERE in self.left

    def reachable(self, channel: str, /) -> bool:
        """Whether there is a contact reference, and no objection."""
        return channel in self.contacts and not (self.left and self.unsubscribed(channel))

    def sends_since(self, at_ms: int) -> int:
        """Notifications sent at or after a time."""
        return sum(sent >= at_ms for sent in self.sends)


def event_key(event: UserEvent) -> int:
    """What tells an event apart: its id, or user, type and time."""
    return id_hash(event.event_id or fallback_id(event.user_id, event.type, event.occurred_at_ms))


def remember(seen: dict[int, int], key: int, at_ms: int, most: int = MOST_IDS) -> bool:
    """Note an id; False where it was there before. Above `most` the oldest is dropped.

    Ids stand in the order of their times, so that the oldest is found at once.
    """
    if key in seen:
        return False
    if len(seen) >= most:
        del seen[next(iter(seen))]
    late = bool(seen) and at_ms < next(reversed(seen.values()))
    seen[key] = at_ms
    if late:
        in_order = sorted(seen.items(), key=itemgetter(1))
        seen.clear()
        seen.update(in_order)
    return True


def note_kind(profile: Profile, kind: str, at_ms: int) -> None:
    """Count one event of a kind."""
    count, last = profile.counts.get(kind, (0, 0))
    if count or len(profile.counts) < MOST_KINDS:
        profile.counts[kind] = (count + 1, max(last, at_ms))


def note_send(sent: Sent, at_ms: int) -> None:
    """Note that something was sent to the user at this time."""
    sent.sends = sorted([*sent.sends, at_ms])[-MOST_SENDS:] if sent.sends else [at_ms]


def action_key(campaign_id: str, action: str) -> str:
    """What `sent_at` calls a template."""
    return f"{campaign_id}/{action}"


def note_action(sent: Sent, campaign_id: str, action: str, at_ms: int) -> None:
    """Note that a template was sent; above the bound the one that was sent first is forgotten."""
    name = action_key(campaign_id, action)
    latest = max(at_ms, sent.sent_at.pop(name, at_ms))
    if len(sent.sent_at) >= MOST_ACTIONS:
        del sent.sent_at[min(sent.sent_at, key=sent.sent_at.__getitem__)]
    sent.sent_at[name] = latest


def take_back_action(sent: Sent, campaign_id: str, action: str, before_ms: int | None) -> None:
    """The last send of a template did not arrive: the one before it is the last; None for none."""
    name = action_key(campaign_id, action)
    sent.sent_at.pop(name, None)
    if before_ms is not None:
        sent.sent_at[name] = before_ms


def take_back_send(sent: Sent, at_ms: int) -> None:
    """One of the sends of this time did not arrive: it does not count against a cap."""
    if at_ms in sent.sends:
        sent.sends.remove(at_ms)


def leave(profile: Profile, channel: str | None, at_ms: int) -> None:
    """The user does not want to be reached in a channel any more; None: in none at all."""
    name = channel or EVERYWHERE
    if name not in profile.left and len(profile.left) >= MOST_CHANNELS:
        name = EVERYWHERE
    profile.left[name] = min(at_ms, profile.left.get(name, at_ms))


def fold_event(profile: Profile, event: UserEvent) -> bool:
    """Fold an event into a profile, in place; False where it is contained already.

    Events may come in any order: of two values for an attribute or a contact the one with the
    later event time stays; of two with the same time the one that came last.
    """
    at_ms = event.occurred_at_ms
    if not remember(profile.seen, event_key(event), at_ms):
        return False
    note_kind(profile, event.type, at_ms)
    _set_newest(profile.attributes, profile.attributes_at, event.attributes, at_ms)
    for channel, reference in event.contacts.items():
        if at_ms >= profile.contacts_at.get(channel, -1):
            profile.contacts_at[channel] = at_ms
            if reference is None:
                profile.contacts.pop(channel, None)
            else:
                profile.contacts[channel] = reference
    return True


def _set_newest(
    values: dict[str, StoredValue],
    times: dict[str, int],
    new: Mapping[str, AttributeValue],
    at_ms: int,
) -> None:
    for name, value in new.items():
        if at_ms >= times.get(name, -1):
            times[name] = at_ms
            if value is None:
                values.pop(name, None)
            else:
                values[name] = tuple(value) if isinstance(value, list) else value
