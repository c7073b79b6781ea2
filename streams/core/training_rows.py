"""What happened, as rows that an encoder is trained on: profiles as they were at each decision."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from schemas.features import PlainProfile
from schemas.ids import NO_SEND
from schemas.learning import LearningExample
from schemas.records import Reward, UserEvent
from schemas.training_rows import TrainingRow
from streams.core.ledger import reward_key
from streams.core.profiles import (
    UNSUBSCRIBE,
    Profile,
    fold_event,
    leave,
    note_kind,
    note_send,
    remember,
)

__all__ = ["newest_outcomes", "training_rows"]


def newest_outcomes(examples: Iterable[LearningExample]) -> dict[str, list[LearningExample]]:
    """By user, the last that was said of each decision by which something was sent, in order."""
    newest: dict[str, LearningExample] = {}
    for example in examples:
        if example.action != NO_SEND:
            newest[example.decision_id] = example  # a correction comes after what it corrects
    by_user: dict[str, list[LearningExample]] = {}
    for example in newest.values():
        by_user.setdefault(example.user_id, []).append(example)
    for theirs in by_user.values():
        theirs.sort(key=lambda example: (example.decided_at_ms, example.decision_id))
    return by_user


def training_rows(
    outcomes: Mapping[str, Sequence[LearningExample]],
    told: Mapping[str, Sequence[UserEvent | Reward]],
    channels: Mapping[tuple[str, str], str],
) -> Iterator[TrainingRow]:
    """One row a decision.

    The profile is folded as a shard folds it, from the events and feedback up to the decision and
    the sends of the decisions before; in whatever order they came, a profile is the same. What
    came later than its time says is in the row from its time on: a shard had it when it came. The
    next event is the first one behind the decision, until it closed.

    Parameters
    ----------
    outcomes, told
        By user.
    channels
        By campaign and template: where an unsubscribe belongs that names no channel.
    """
    for user, decisions in outcomes.items():
        theirs = sorted(told.get(user, ()), key=lambda one: one.occurred_at_ms)
        of = {
            example.decision_id: channels.get((example.campaign_id, example.action))
            for example in decisions
        }
        profile, folded, seen = Profile(), 0, dict[int, int]()
        for example in decisions:
            at_ms = example.decided_at_ms
            # A triggered decision may be as early as what triggered it, and has seen that.
            while folded < len(theirs) and theirs[folded].occurred_at_ms <= at_ms:
                _fold(profile, theirs[folded], of, seen)
                folded += 1
            behind = (theirs[place] for place in range(folded, len(theirs)))
            following = next((one for one in behind if isinstance(one, UserEvent)), None)
            came = following is not None and following.occurred_at_ms <= example.closed_at_ms
            yield TrainingRow(
                at_ms=at_ms,
                profile=PlainProfile.of(profile),
                action=example.action,
                clicked=_happened(example, "click"),
                purchased=_happened(example, "purchase"),
                unsubscribed=_happened(example, "unsubscribe"),
                next_event=following.type if came and following is not None else "",
            )
            note_send(profile, at_ms)


def _fold(
    profile: Profile,
    told: UserEvent | Reward,
    channel_of: Mapping[str, str | None],
    seen: dict[int, int],
) -> None:
    """Fold an event or feedback into a profile, as `FoldProfiles` and `Attribute` do."""
    at_ms = told.occurred_at_ms
    if isinstance(told, UserEvent):
        fold_event(profile, told)
    elif remember(seen, reward_key(told), at_ms):
        note_kind(profile, told.kind, at_ms)
        if told.kind == UNSUBSCRIBE:
            leave(profile, told.channel or channel_of.get(told.decision_id or ""), at_ms)


def _happened(example: LearningExample, kind: str) -> float:
    return float(example.feedback.get(kind, 0) > 0)
