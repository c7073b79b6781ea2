"""Triggered sends: an event of a user asks for a decision, in the transaction that folds it."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from schemas.ids import BASELINE, HOLDOUT, POLICY
from schemas.records import UserEvent
from streams.agents.beside import Beside
from streams.agents.clock import Clock
from streams.agents.parts import note_complete
from streams.agents.progress import (
    is_to_be_told,
    note_tallies,
    store_progress,
    tell_progress,
)
from streams.agents.running_waves import RunningWave, load_wave
from streams.agents.sending import Known, Members, PinnedWaves, send, shut_templates
from streams.agents.state import (
    REST,
    Trigger,
    Triggering,
    load,
    put_timers,
    read_waiting,
    rest_key,
    store,
    triggering_key,
    waiting_key,
    waiting_prefix,
    wave_key,
)
from streams.core.profiles import event_key
from streams.core.waves import Choice, Wave
from streams.kafka.transaction import Transaction

__all__ = ["TriggeredBatch", "Triggers"]

COUNTED = frozenset({POLICY, BASELINE, HOLDOUT})  # reasons after which a user rests


class Triggers:
    """Decides for users whose event a triggered campaign waits for.

    Called as a step it tends what no event asks for: waves that a newer one replaced, events that
    waited for a policy, and the learner, who is told at most once a second.

    Parameters
    ----------
    chunk_size
        Most users decided at once.
    """

    def __init__(self, known: Known, chunk_size: int, clock: Clock) -> None:
        self._known = known
        self._chunk_size = chunk_size
        self._clock = clock
        self._pinned = PinnedWaves(known)
        self._beside = Beside()

    def let_go(self, shard: int) -> None:
        """A shard has moved to another worker."""
        self._pinned.let_go(shard)

    def batch(self, tx: Transaction) -> "TriggeredBatch":
        """What the events of one transaction trigger."""
        return TriggeredBatch(self, tx)

    def __call__(self, tx: Transaction) -> bool:
        """Tend each triggered campaign of the shard; True if there may be more."""
        more = False
        for key, _ in list(tx.scan(b"g")):
            campaign_id = key[1:].decode()
            if self._status(campaign_id) == "stopped":
                self._stop(tx, campaign_id)
            else:
                more |= self._tend(tx, campaign_id)
        return more

    def _tend(self, tx: Transaction, campaign_id: str) -> bool:
        triggering = _triggering(tx, campaign_id)
        running, wave = self._deciding(tx, campaign_id, triggering)
        if wave is None:
            return False
        rank = triggering.waves.index(running.start.wave)
        if rank:
            for number in triggering.waves[:rank]:
                self._end_wave(tx, campaign_id, number)
            triggering.waves = triggering.waves[rank:]
            store(tx, triggering_key(campaign_id), triggering)
        waiting = list(islice(tx.scan(waiting_prefix(campaign_id)), self._chunk_size))
        for key, _ in waiting:
            tx.delete(key)
        self.decide(tx, campaign_id, [read_waiting(key) for key, _ in waiting])
        running = _running(tx, campaign_id, running.start.wave)
        now_ms = self._clock.now_ms(tx.now_ms)
        if is_to_be_told(running, now_ms):
            tell_progress(tx, running, now_ms)
        return len(waiting) == self._chunk_size

    def _stop(self, tx: Transaction, campaign_id: str) -> None:
        for number in _triggering(tx, campaign_id).waves:
            self._end_wave(tx, campaign_id, number)
        tx.delete(triggering_key(campaign_id))
        for key, _ in list(tx.scan(waiting_prefix(campaign_id))):
            tx.delete(key)

    def _end_wave(self, tx: Transaction, campaign_id: str, number: int) -> None:
        running = _running(tx, campaign_id, number)
        running.deciding = False
        self._pinned.forget(running.start)
        note_complete(tx, running)
        tell_progress(tx, running, self._clock.now_ms(tx.now_ms))

    def decide(self, tx: Transaction, campaign_id: str, triggers: Sequence[Trigger]) -> None:
        """Decide for the users of events, the newest wave whose policy has arrived.

        What a paused campaign is asked is not answered later.
        """
        if not triggers or self._status(campaign_id) != "active":
            return
        running, wave = self._deciding(tx, campaign_id, _triggering(tx, campaign_id))
        if wave is None:
            for trigger in triggers:
                tx.put(waiting_key(campaign_id, trigger), b"")
            return
        before = running.chunk
        for at_ms, chunk in self._chunks(tx, triggers):
            self._decide(tx, running, wave, chunk, at_ms)
        if running.chunk == before:
            return
        store_progress(tx, running, self._clock.now_ms(tx.now_ms))

    def _chunks(
        self, tx: Transaction, triggers: Iterable[Trigger]
    ) -> Iterator[tuple[int, list[Trigger]]]:
        """Triggers that are decided at the same time, each user once: what a chunk sends counts."""
        chunk: dict[str, Trigger] = {}
        chunk_ms = -1
        for trigger in triggers:
            at_ms = self._clock.answers_ms(tx.now_ms, trigger.at_ms)
            moved = at_ms != chunk_ms and self._clock.wall_ms is None
            if chunk and (trigger.user in chunk or moved or len(chunk) >= self._chunk_size):
                yield chunk_ms, list(chunk.values())
                chunk = {}
            chunk_ms = at_ms
            chunk[trigger.user] = trigger
        if chunk:
            yield chunk_ms, list(chunk.values())

    def _decide(
        self,
        tx: Transaction,
        running: RunningWave,
        wave: Wave,
        triggers: Iterable[Trigger],
        now_ms: int,
    ) -> None:
        campaign = running.start.campaign
        may = {
            trigger.user: trigger
            for trigger in triggers
            if now_ms - trigger.at_ms <= campaign.expires_after_ms  # else nobody waits any more
            and wave.audience.lists(trigger.user)
            and not _rests(tx, trigger, campaign.campaign_id)
        }
        members = Members(tx, wave, now_ms)
        for user in may:
            members.add(user)
        newest = self._known.campaign(campaign.campaign_id)
        shut = shut_templates(campaign, newest)
        events = {user: trigger.event for user, trigger in may.items()}
        people, chunk = members.people, running.chunk
        choices = self._beside.decide(tx, wave, people, chunk, now_ms, shut, events)
        if not choices:
            return
        running.chunk += 1
        note_tallies(running, send(tx, running, choices, members.ledgers, now_ms))
        if campaign.trigger_every_ms:
            for choice in choices:
                _rest(tx, choice, may[choice.decision.user_id], campaign.trigger_every_ms)

    def _status(self, campaign_id: str) -> str:
        newest = self._known.campaign(campaign_id)
        return "active" if newest is None else newest.status

    def _deciding(
        self, tx: Transaction, campaign_id: str, triggering: Triggering
    ) -> tuple[RunningWave, Wave | None]:
        """The newest wave whose policy has arrived; the oldest, without it, where none has."""
        for number in reversed(triggering.waves):
            running = _running(tx, campaign_id, number)
            wave = self._pinned.wave(running.start)
            if wave is not None:
                break
        return running, wave


class TriggeredBatch:
    """The events of one transaction that ask for decisions.

    They are decided together, at the batch's end; a user's next event waits until what its last
    one triggered is decided, so that a decision sees the profile as its event left it.
    """

    def __init__(self, triggers: Triggers, tx: Transaction) -> None:
        self._triggers = triggers
        self._tx = tx
        self._campaigns: dict[str, list[str]] = {}
        for key, _ in tx.scan(b"g"):
            campaign_id = key[1:].decode()
            event = _triggering(tx, campaign_id).event
            self._campaigns.setdefault(event, []).append(campaign_id)
        self._asked: dict[str, list[Trigger]] = {}
        self._users: set[str] = set()

    def asks_for(self, user: str) -> bool:
        """Whether a decision for the user is due before its next event is folded."""
        return user in self._users

    def folded(self, event: UserEvent) -> None:
        """An event is in its user's profile now, for the first time."""
        for campaign_id in self._campaigns.get(event.type, ()):
            trigger = Trigger(event.user_id, event_key(event), event.occurred_at_ms)
            self._asked.setdefault(campaign_id, []).append(trigger)
            self._users.add(event.user_id)

    def decide(self) -> None:
        """Decide what was asked so far, campaign after campaign: each sees what others sent."""
        for campaign_id in sorted(self._asked):
            self._triggers.decide(self._tx, campaign_id, self._asked[campaign_id])
        self._asked.clear()
        self._users.clear()


def _triggering(tx: Transaction, campaign_id: str) -> Triggering:
    found = load(tx, triggering_key(campaign_id), Triggering)
    assert found is not None
    return found


def _running(tx: Transaction, campaign_id: str, number: int) -> RunningWave:
    found = load_wave(tx, wave_key(campaign_id, number))
    assert found is not None  # a wave stays as long as it decides
    return found


def _rests(tx: Transaction, trigger: Trigger, campaign_id: str) -> bool:
    until_ms = tx.get(rest_key(trigger.user, campaign_id))
    return until_ms is not None and trigger.at_ms < int(until_ms)


def _rest(tx: Transaction, choice: Choice, trigger: Trigger, every_ms: int) -> None:
    """A user rests after a decision; one that a cap or a quiet hour made does not count."""
    decision = choice.decision
    if decision.reason not in COUNTED:
        return
    until_ms = min(trigger.at_ms, decision.decided_at_ms) + every_ms
    tx.put(rest_key(trigger.user, decision.campaign_id), str(until_ms).encode())
    put_timers(tx, until_ms, REST, [(trigger.user, decision.campaign_id)])
