"""Outcomes on their way from the shards to the learner, and how it folds them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from schemas.campaign import Campaign
from schemas.errors import BadRecordError
from schemas.learning import LearningExample, LearningUpdate, Tally
from streams.core.encoding import ContextEncoder, action_set
from streams.core.ledger import Entry
from streams.core.policies import Examples, Policy
from streams.core.sums import sums_in

__all__ = [
    "Outcome",
    "Rows",
    "add_tallies",
    "blocks_in",
    "decision_tally",
    "example_of",
    "examples_in",
    "fold_updates",
    "joined",
    "outcome_tally",
    "rows_of",
    "undelivered_tally",
    "update_columns",
]

BLOCK = 4096  # examples that are learned at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A decision's reward as it stands, and as it was told before.

    Attributes
    ----------
    previous
        As the log has it; None: it closes now. Else this is a correction.
    known
        As the learner has it; None: it does not know of the decision.
    at_ms
        Event time of the close or correction.
    kind
        For a correction: the feedback that came.
    """

    user_id: str
    entry: Entry
    reward: float
    previous: float | None
    known: float | None
    at_ms: int
    kind: str | None = None


class Rows(msgspec.Struct, array_like=True):
    """Examples as the columns of a LearningUpdate have them."""

    actions: list[str] = []
    action_index: bytes = b""
    contexts: bytes = b""
    features: list[bytes] = []
    rewards: bytes = b""
    previous: bytes = b""
    decided_at_ms: bytes = b""


def example_of(outcome: Outcome, campaign_version: int) -> LearningExample:
    """The record that the log keeps of an outcome."""
    entry = outcome.entry
    return LearningExample(
        decision_id=entry.decision_id,
        campaign_id=entry.campaign_id,
        campaign_version=campaign_version,
        wave=entry.wave,
        user_id=outcome.user_id,
        reason=entry.reason,
        action=entry.action,
        propensity=entry.propensity,
        propensity_kind=entry.propensity_kind,
        actions=entry.actions,
        probabilities=entry.probabilities,
        context=entry.context,
        reward=outcome.reward,
        previous_reward=outcome.previous,
        feedback=dict(entry.counts),
        policy_version=entry.policy_version,
        encoder_version=entry.encoder_version,
        decided_at_ms=entry.decided_at_ms,
        closed_at_ms=outcome.at_ms,
        learn=entry.learn,
        features=entry.features,
    )


def decision_tally(reason: str, action: str, decisions: int = 1) -> Tally:
    """What decisions for the same reason and action add to their wave's report."""
    return Tally(reason=reason, action=action, decisions=decisions)


def outcome_tally(outcome: Outcome) -> Tally:
    """What a closed or corrected outcome adds to its wave's report."""
    entry, new = outcome.entry, outcome.previous is None
    previous = outcome.previous or 0.0
    return Tally(
        reason=entry.reason,
        action=entry.action,
        closed=int(new),
        feedback=dict(entry.counts) if new else {outcome.kind or "": 1},
        reward_sum=outcome.reward - previous,
        reward_square_sum=outcome.reward**2 - previous**2,
    )


def undelivered_tally(entry: Entry) -> Tally:
    """What a decision that was not delivered adds."""
    return Tally(reason=entry.reason, action=entry.action, undelivered=1)


def add_tallies(tallies: Iterable[Tally]) -> list[Tally]:
    """Sum tallies by reason and action, in a fixed order."""
    sums: dict[tuple[str, str], Tally] = {}
    for tally in tallies:
        key = (tally.reason, tally.action)
        have = sums.get(key)
        if have is None:
            sums[key] = tally
            continue
        feedback = dict(have.feedback)
        for kind, count in tally.feedback.items():
            feedback[kind] = feedback.get(kind, 0) + count
        sums[key] = Tally(
            reason=tally.reason,
            action=tally.action,
            decisions=have.decisions + tally.decisions,
            closed=have.closed + tally.closed,
            undelivered=have.undelivered + tally.undelivered,
            feedback=feedback,
            reward_sum=have.reward_sum + tally.reward_sum,
            reward_square_sum=have.reward_square_sum + tally.reward_square_sum,
        )
    return [sums[key] for key in sorted(sums)]


def update_columns(outcomes: Sequence[Outcome]) -> dict[str, object]:
    """The columns of a LearningUpdate for the outcomes that are to be learned from."""
    learned = [o for o in outcomes if o.entry.learn and o.reward != o.known]
    actions = sorted({outcome.entry.action for outcome in learned})
    index = {action: rank for rank, action in enumerate(actions)}
    nan = float("nan")
    return {
        "actions": actions,
        "action_index": np.array([index[o.entry.action] for o in learned], dtype="<i4").tobytes(),
        "contexts": b"".join(o.entry.context for o in learned),
        "features": [o.entry.features for o in learned if o.entry.features],
        "rewards": np.array([o.reward for o in learned], dtype="<f8").tobytes(),
        "previous": np.array(
            [nan if o.known is None else o.known for o in learned], dtype="<f8"
        ).tobytes(),
        "decided_at_ms": np.array([o.entry.decided_at_ms for o in learned], dtype="<i8").tobytes(),
    }


def rows_of(examples: Examples) -> Rows:
    """Examples as columns; contexts were float32 before, so that nothing is lost."""
    actions = sorted(set(examples.actions))
    index = {action: rank for rank, action in enumerate(actions)}
    return Rows(
        actions=actions,
        action_index=np.array([index[name] for name in examples.actions], dtype="<i4").tobytes(),
        contexts=examples.contexts.astype("<f4").tobytes(),
        rewards=examples.rewards.astype("<f8").tobytes(),
        previous=examples.previous.astype("<f8").tobytes(),
        decided_at_ms=examples.at_ms.astype("<i8").tobytes(),
    )


def examples_in(
    update: LearningUpdate | Rows, campaign: Campaign, encoder: ContextEncoder | None = None
) -> Examples | None:
    """The examples of an update, as the policy learns them; None where there are none.

    Parameters
    ----------
    encoder
        That the policy is of, for a campaign with a profile encoder: contexts that another
        release made are encoded again.

    Raises
    ------
    BadRecordError
        If its columns do not fit each other, the campaign's context or its templates.
    """
    n = len(update.rewards) // 8
    width = _width(update, campaign, n)
    sizes = (
        len(update.action_index) == 4 * n
        and len(update.contexts) == 4 * n * width
        and len(update.rewards) == len(update.previous) == len(update.decided_at_ms) == 8 * n
    )
    if not sizes:
        raise BadRecordError(
            f"an update of {n} examples for campaign {campaign.campaign_id} has columns of other "
            f"lengths: contexts must have {width} columns"
        )
    if n == 0:
        return None
    known = action_set(campaign)
    rows = {name: row for row, name in enumerate(known.ids)}
    index = np.frombuffer(update.action_index, dtype="<i4")
    unknown = sorted(set(update.actions) - set(rows))
    if unknown or index.min() < 0 or index.max() >= len(update.actions):
        raise BadRecordError(
            f"an update for campaign {campaign.campaign_id} names templates that it does not "
            f"have: {', '.join(unknown) or 'an index beyond its list'}"
        )
    taken = np.array([rows[name] for name in update.actions])[index]
    contexts = np.frombuffer(update.contexts, dtype="<f4").reshape(n, width).astype(np.float64)
    made = update.encoder_version if isinstance(update, LearningUpdate) else None
    if encoder is not None and made not in (None, encoder.version):
        contexts = encoder.encode_again(contexts, update.features)
    return Examples(
        contexts=contexts,
        actions=tuple(known.ids[row] for row in taken),
        action_features=known.features[taken],
        rewards=np.frombuffer(update.rewards, dtype="<f8"),
        previous=np.frombuffer(update.previous, dtype="<f8"),
        at_ms=np.frombuffer(update.decided_at_ms, dtype="<i8").astype(np.int64),
    )


def _width(update: LearningUpdate | Rows, campaign: Campaign, n: int) -> int:
    """Columns of a context: with an encoder, some more than the campaign names."""
    named = ContextEncoder(campaign.context).d_user
    if campaign.encoder is None or n == 0:
        return named
    width = len(update.contexts) // (4 * n)
    if width <= named or len(update.features) != n:
        raise BadRecordError(
            f"an update of {n} examples for campaign {campaign.campaign_id} has contexts of "
            f"{width} columns and features of {len(update.features)} users: with an encoder each "
            f"has more than the {named} columns that are named, and its features"
        )
    return width


def fold_updates(
    policy: Policy,
    updates: Sequence[LearningUpdate],
    campaign: Campaign,
    encoder: ContextEncoder | None = None,
) -> int:
    """Learn what updates hold, in their order; gives the number of new examples.

    First the examples, then what was summed up in the shards. Both were checked when they came.

    The sum of floating-point numbers depends on its grouping, and how outcomes fall into updates
    depends on timing. So examples are regrouped into blocks of a fixed size: the same outcomes in
    the same order give the same bytes.
    """
    before = policy.n_learned
    for block in blocks_in(updates, campaign, encoder):
        policy.learn_many(block)
    parts = [part for update in updates for part in sums_in(update, campaign, trusted=True)]
    if parts:
        policy.learn_sums(parts)
    return policy.n_learned - before


def blocks_in(
    updates: Iterable[LearningUpdate], campaign: Campaign, encoder: ContextEncoder | None
) -> Iterator[Examples]:
    """The examples of updates in their order, regrouped into blocks of a fixed size."""
    parts: list[Examples] = []
    held = 0
    for update in updates:
        examples = examples_in(update, campaign, encoder)
        if examples is None:
            continue
        parts.append(examples)
        held += len(examples)
        if held < BLOCK:
            continue
        whole = joined(parts)
        while held >= BLOCK:
            yield whole.taking(slice(0, BLOCK))
            whole = whole.taking(slice(BLOCK, None))
            held -= BLOCK
        parts = [whole]
    if held:
        yield joined(parts)


def joined(parts: Sequence[Examples]) -> Examples:
    """Examples one after the other; at least one part."""
    return Examples(
        contexts=np.concatenate([part.contexts for part in parts]),
        actions=tuple(action for part in parts for action in part.actions),
        action_features=np.concatenate([part.action_features for part in parts]),
        rewards=np.concatenate([part.rewards for part in parts]),
        previous=np.concatenate([part.previous for part in parts]),
        at_ms=np.concatenate([part.at_ms for part in parts]),
    )
