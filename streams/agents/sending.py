"""Shared by every way of deciding: pinned policies, decisions sent and kept, the learner told."""

import dataclasses
import functools
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol
from weakref import WeakValueDictionary

import structlog

from schemas.campaign import Campaign, WaveStart
from schemas.ids import NO_SEND
from schemas.learning import PolicySnapshot, Tally
from schemas.records import Decision
from schemas.topics import SEND_DECISIONS
from streams.agents.parts import tell_early
from streams.agents.running_waves import RunningWave
from streams.agents.snapshots import newest_key
from streams.agents.state import (
    CLOSE,
    ledger_key,
    load_ledger,
    profile_key,
    put_timers,
    store,
)
from streams.core.encoding import LoadedRelease, release_label
from streams.core.learning import Outcome, add_tallies, decision_tally
from streams.core.ledger import Ledger
from streams.core.policies import Policy
from streams.core.profiles import Profile, note_action, note_send
from streams.core.reward_units import unit_of
from streams.core.snapshots import policy_of
from streams.core.waves import Choice, Wave, deciding_policy
from streams.kafka.transaction import Transaction

__all__ = ["Known", "Members", "PinnedWaves", "send", "shut_templates"]

log = structlog.get_logger()


class Known(Protocol):
    """What every worker follows."""

    def campaign(self, campaign_id: str) -> Campaign | None:
        """The newest definition."""
        ...

    def snapshot(self, campaign_id: str, wave: int | None = None) -> PolicySnapshot | None:
        """The newest policy, or the one that a wave is pinned to."""
        ...

    def encoder(self, label: str) -> LoadedRelease | None:
        """A release of an encoder; None while it is not loaded."""
        ...

    def stands_in(self, label: str) -> str | None:
        """The last good release, where this one is refused here; None where it is not."""
        ...


class PinnedWaves:
    """Waves with the frozen policy and the release that they are pinned to, while they decide.

    A worker that refuses the release decides with the last good one, and with the policy that
    learned under it: a pair of their own, to the end of the wave in this worker.
    """

    def __init__(self, known: Known) -> None:
        self._known = known
        # With what each was started by: who stands in has another policy in its own start.
        self._waves: dict[tuple[str, int, int], tuple[WaveStart, Wave]] = {}
        # Shards decide in threads of their own. A policy's draws take megabytes: the waves of all
        # shards hold the same one, and it goes with the last of them.
        self._policies: WeakValueDictionary[tuple[str, int, int, str], Policy] = (
            WeakValueDictionary()
        )
        self._making = threading.Lock()

    def __len__(self) -> int:
        return len(self._waves)

    def wave(self, start: WaveStart) -> Wave | None:
        """The wave with its policy and release; None while one of them has not arrived."""
        key = (start.campaign.campaign_id, start.wave, start.shard)
        known = self._waves.get(key)
        if known is not None and known[0] == start:
            return known[1]
        snapshot = self._known.snapshot(start.campaign.campaign_id, start.wave)
        if snapshot is None or snapshot.version != start.policy_version:
            return None
        label = release_label(start.encoder_version)
        release = None if label is None else self._known.encoder(label)
        if label is not None and release is None:
            wave = self._of_last_good(start, label)
        else:
            wave = self._made(start, snapshot, release)
        if wave is not None:
            self._waves[key] = start, wave
        return wave

    def _of_last_good(self, start: WaveStart, refused: str) -> Wave | None:
        """The wave with the last good release; None where its own is not refused, or none is."""
        label = self._known.stands_in(refused)
        release = None if label is None else self._known.encoder(label)
        if label is None or release is None:
            return None
        name = start.campaign.campaign_id
        for key in (newest_key(name, label), name):
            snapshot = self._known.snapshot(key)
            if snapshot is not None and release_label(snapshot.encoder_version) == label:
                break
        else:
            return None
        log.error("last_good_release_decides", campaign=name, release=label, refused=refused)
        instead = dataclasses.replace(
            start,
            policy_version=snapshot.version,
            encoder_version=snapshot.encoder_version,
        )
        return self._made(instead, snapshot, release)

    def _made(
        self, start: WaveStart, snapshot: PolicySnapshot, release: LoadedRelease | None
    ) -> Wave:
        return Wave(start, self._policy(start, snapshot), release, unit_of(snapshot))

    def _policy(self, start: WaveStart, snapshot: PolicySnapshot) -> Policy:
        key = (start.campaign.campaign_id, start.wave, snapshot.version, snapshot.encoder_version)
        with self._making:
            policy = self._policies.get(key)
            if policy is None:
                policy = deciding_policy(start, policy_of(snapshot))
                if policy.SHARED:
                    self._policies[key] = policy
            return policy

    def forget(self, start: WaveStart) -> None:
        """A wave has decided for everybody in a shard."""
        self._waves.pop((start.campaign.campaign_id, start.wave, start.shard), None)

    def let_go(self, shard: int) -> None:
        """A shard is another worker's now, and its waves with it."""
        for key in list(self._waves):
            if key[2] == shard:
                self._waves.pop(key, None)


class Members:
    """Users that a wave is to decide for, as the transaction sees them.

    Attributes
    ----------
    people
        With their profiles, in the order in which they were added.
    ledgers
        By user.
    """

    def __init__(self, tx: Transaction, wave: Wave, now_ms: int) -> None:
        self._tx = tx
        self._wave = wave
        self._now_ms = now_ms
        self.people: list[tuple[str, Profile]] = []
        self.ledgers: dict[str, Ledger] = {}

    def add(self, user: str, raw: bytes | None = None) -> None:
        """Add a user, unless the segment does not hold.

        Parameters
        ----------
        raw
            What stands under the profile's key, where that was met on the way.
        """
        raw = raw if raw is not None else self._tx.get(profile_key(user))
        profile = self._wave.profile_of(raw)
        if self._wave.audience.in_segment(profile, self._now_ms):
            self.ledgers[user] = load_ledger(self._tx, user, profile)
            self.people.append((user, profile))


def send(
    tx: Transaction,
    running: RunningWave,
    choices: Sequence[Choice],
    ledgers: Mapping[str, Ledger],
    now_ms: int,
) -> list[Tally]:
    """Send a wave's decisions and count them in; gives what they add to its report.

    Parameters
    ----------
    ledgers
        By user, as they were when the decisions were made; changed here.
    now_ms
        When the decisions were made.
    """
    early = running.start.campaign.learn_at == "decision"
    for choice in choices:
        if choice.entry is not None:
            choice.entry.told = early
        _emit(tx, choice, ledgers[choice.decision.user_id], running.start.campaign)
    running.decided += len(choices)
    opened = [choice for choice in choices if choice.entry is not None]
    running.open += len(opened)
    running.held += len(opened)
    named = [(choice.decision.user_id, choice.decision.decision_id) for choice in opened]
    put_timers(tx, now_ms + running.start.campaign.closes_after_ms, CLOSE, named)
    if early and opened:
        tell_early(tx, running, [_unanswered(choice) for choice in opened], now_ms)
    made = Counter((choice.decision.reason, choice.decision.action) for choice in choices)
    return add_tallies(decision_tally(*what, count) for what, count in made.items())


def _unanswered(choice: Choice) -> Outcome:
    """A decision as the learner is told of it at once: nothing has come back."""
    assert choice.entry is not None
    return Outcome(
        user_id=choice.decision.user_id,
        entry=choice.entry,
        reward=0.0,
        previous=None,
        known=None,
        at_ms=choice.decision.decided_at_ms,
    )


def _emit(tx: Transaction, choice: Choice, ledger: Ledger, campaign: Campaign) -> None:
    """Send a decision, and keep it open where something was sent."""
    decision, entry = choice.decision, choice.entry
    tx.emit(
        SEND_DECISIONS,
        decision,
        key=decision.user_id,
        partition=tx.number,
        headers=_cloud_event(decision, tx.number),
    )
    if entry is None:
        return
    user = decision.user_id
    ledger.entries.append(entry)
    if decision.action != NO_SEND:
        note_send(ledger, decision.decided_at_ms)
        if campaign.fatigue_size:
            note_action(ledger, campaign.campaign_id, decision.action, decision.decided_at_ms)
    store(tx, ledger_key(user), ledger)


def shut_templates(pinned: Campaign, newest: Campaign | None) -> frozenset[str]:
    """Templates that were paused since the wave began: a marketer stops what hurts at once."""
    if newest is None:
        return frozenset()
    active = {template.id for template in newest.templates if template.status == "active"}
    return frozenset(template.id for template in pinned.templates) - active


def _cloud_event(decision: Decision, shard: int) -> list[tuple[str, bytes]]:
    """CloudEvents 1.0.2, Kafka protocol binding, binary content mode."""
    return [*_envelope(shard), ("ce_id", decision.decision_id.encode())]


@functools.cache
def _envelope(shard: int) -> tuple[tuple[str, bytes], ...]:
    """What the events of a shard's decisions have in common."""
    return (
        ("ce_specversion", b"1.0"),
        ("ce_type", b"groundswell.decision"),
        ("ce_source", f"/groundswell/shards/{shard}".encode()),
        ("content-type", b"application/avro"),
    )
