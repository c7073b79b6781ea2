"""What happened, as rows that an encoder is trained on: profiles as they were at each decision."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from schemas.features import PlainProfile
from schemas.ids import NO_SEND
from schemas.learning import LearningExample
from schemas.records import UserEvent
from schemas.training_rows import TrainingRow
from streams.core.profiles import Profile, fold_event, note_send

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
    outcomes: Mapping[str, Sequence[LearningExample]], events: Mapping[str, Sequence[UserEvent]]
) -> Iterator[TrainingRow]:
    """One row a decision.

    The profile is folded from the events before the decision, as a shard folds it, with the
    sends of the decisions before. The next event is the first one behind it, until it closed.

    Parameters
    ----------
    outcomes, events
        By user.
    """
    for user, decisions in outcomes.items():
        theirs = sorted(events.get(user, ()), key=lambda event: event.occurred_at_ms)
        profile, folded = Profile(), 0
        for example in decisions:
            at_ms = example.decided_at_ms
            while folded < len(theirs) and theirs[folded].occurred_at_ms < at_ms:
                fold_event(profile, theirs[folded])
                folded += 1
            following = theirs[folded] if folded < len(theirs) else None
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


def _happened(example: LearningExample, kind: str) -> float:
    return float(example.feedback.get(kind, 0) > 0)
