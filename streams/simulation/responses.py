"""What people do with what they were sent, and the disorder in which a company hears of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from schemas.records import Reward

__all__ = ["DISMISS_RATE", "UNSUBSCRIBE_RATE", "Delays", "Responses", "disturb", "draw_responses"]

DISMISS_RATE = 0.03  # of those who do not click
UNSUBSCRIBE_RATE = 0.001  # the same
AMOUNT_MEDIAN = 20.0
AMOUNT_SIGMA = 0.5
DRAWS = 5  # uniforms a decision needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """How long after the send people act: log-normal, medians in seconds."""

    click_median_s: float = 1_800.0
    click_sigma: float = 1.0
    purchase_median_s: float = 7_200.0
    purchase_sigma: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Responses:
    """What came of n decisions.

    Attributes
    ----------
    happened
        By kind of feedback, whether each decision got it, (n,).
    at_ms
        By kind, when it happened, (n,); meaningless where it did not.
    amounts
        What a purchase is worth, (n,); the same.
    """

    decision_ids: Sequence[str]
    user_ids: NDArray[np.str_]
    happened: Mapping[str, NDArray[np.bool_]]
    at_ms: Mapping[str, NDArray[np.int64]]
    amounts: NDArray[np.float64]

    def rewards(self, weights: Mapping[str, float]) -> NDArray[np.float64]:
        """Give each decision's reward r under a campaign's weights by kind, (n,)."""
        total = np.zeros(len(self.decision_ids))
        for kind, happened in self.happened.items():
            total += weights.get(kind, 0.0) * happened
        return total

    def events(self) -> list[Reward]:
        """Give the feedback as records, in the order in which it happened."""
        events = [
            Reward(
                reward_id=f"{self.decision_ids[row]}:{kind}",
                user_id=str(self.user_ids[row]),
                kind=kind,
                occurred_at_ms=int(self.at_ms[kind][row]),
                value=round(float(self.amounts[row]), 2) if kind == "purchase" else None,
                decision_id=self.decision_ids[row],
            )
            for kind, happened in self.happened.items()
            for row in np.flatnonzero(happened).tolist()
        ]
        return sorted(events, key=lambda event: event.occurred_at_ms)


def draw_responses(
    seed: int,
    *,
    decision_ids: Sequence[str],
    user_ids: NDArray[np.str_],
    click: NDArray[np.float64],
    purchase: NDArray[np.float64],
    decided_at_ms: NDArray[np.int64],
    delays: Delays,
) -> Responses:
    """Draw what came of each decision, as a function of seed and decision id alone.

    A decision that is delivered twice gets the same answer twice.

    Parameters
    ----------
    click, purchase
        The probabilities of a click, and of a purchase given a click, (n,).
    """
    draws = _uniforms(seed, decision_ids)
    clicked = draws[:, 0] < click
    bought = clicked & (draws[:, 1] < purchase)
    # who does not click may be annoyed: one draw decides how
    unsubscribed = ~clicked & (draws[:, 1] < UNSUBSCRIBE_RATE)
    dismissed = ~clicked & ~unsubscribed & (draws[:, 1] < UNSUBSCRIBE_RATE + DISMISS_RATE)
    acted_ms = decided_at_ms + _after_ms(draws[:, 2], delays.click_median_s, delays.click_sigma)
    bought_ms = decided_at_ms + _after_ms(
        draws[:, 3], delays.purchase_median_s, delays.purchase_sigma
    )
    return Responses(
        decision_ids=decision_ids,
        user_ids=user_ids,
        happened={
            "click": clicked,
            "purchase": bought,
            "dismiss": dismissed,
            "unsubscribe": unsubscribed,
        },
        at_ms={
            "click": acted_ms,
            "purchase": np.maximum(bought_ms, acted_ms + 1),  # nobody buys before the click
            "dismiss": acted_ms,
            "unsubscribe": acted_ms,
        },
        amounts=AMOUNT_MEDIAN * np.exp(AMOUNT_SIGMA * ndtri(draws[:, 4])),
    )


def disturb(
    rng: np.random.Generator,
    events: Sequence[Reward],
    *,
    duplicate_rate: float,
    disorder_s: float,
) -> list[tuple[int, Reward]]:
    """Send a share of the events twice, and all of them late by up to `disorder_s`.

    Returns
    -------
    Pairs of when to send (milliseconds) and what, in the order of sending. A duplicate is the
    same record with the same id.
    """
    again = np.flatnonzero(rng.random(len(events)) < duplicate_rate)
    rows = np.concatenate([np.arange(len(events)), again])
    late_ms = (rng.random(len(rows)) * disorder_s * 1_000.0).astype(np.int64)
    times = [
        events[row].occurred_at_ms + int(late) for row, late in zip(rows, late_ms, strict=True)
    ]
    return [(times[place], events[rows[place]]) for place in np.argsort(times, kind="stable")]


def _uniforms(seed: int, decision_ids: Sequence[str]) -> NDArray[np.float64]:
    """Give numbers in (0, 1) that depend on seed and id alone, (n, `DRAWS`)."""
    key = str(seed).encode()
    digests = b"".join(
        blake2b(decision_id.encode(), digest_size=8 * DRAWS, key=key).digest()
        for decision_id in decision_ids
    )
    words = np.frombuffer(digests, dtype="<u8").reshape(-1, DRAWS)
    return ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def _after_ms(draws: NDArray[np.float64], median_s: float, sigma: float) -> NDArray[np.int64]:
    return np.ceil(1_000.0 * median_s * np.exp(sigma * ndtri(draws))).astype(np.int64)
