"""The blocks of a campaign's file that are set together: when it decides, and how it learns."""

from dataclasses import dataclass

from schemas.campaign import LARGEST_FATIGUE
from streams.commands.marked_yaml import Value

__all__ = ["Choosing", "Trigger", "read_choosing", "read_trigger"]

TEN_MINUTES_MS = 600_000
FIFTEEN_DAYS_MS = 15 * 86_400_000  # Yancey & Settles 2020, of an app's daily reminders
SCHEDULED = ("waves", "wave_deadline")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """What makes a triggered campaign decide."""

    event: str | None = None
    every_ms: int = 0
    learn_every_ms: int = TEN_MINUTES_MS


def read_trigger(given: dict[str, Value]) -> Trigger:
    """The trigger of a campaign; one without an event where the schedule decides.

    Raises
    ------
    CampaignError
        If what belongs to a schedule stands beside it.
    """
    if "trigger" not in given:
        return Trigger()
    for key in SCHEDULED:
        if key in given:
            raise given[key].error(
                "belongs to a schedule, and a trigger is there: a triggered campaign has a wave "
                "for every learn_every, remove this"
            )
    block = given["trigger"].entries(("event", "at_most_every", "learn_every"), required=("event",))
    every, learn = block.get("at_most_every"), block.get("learn_every")
    return Trigger(
        event=block["event"].text(),
        every_ms=0 if every is None else every.duration_ms(0),
        learn_every_ms=TEN_MINUTES_MS if learn is None else learn.duration_ms(1000),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Choosing:
    """What the policy chooses from, and begins with."""

    no_send: bool
    fatigue_size: float
    fatigue_half_life_ms: int
    warm_start_campaign: str | None
    warm_start_discount: float
    learn_at: str
    clip_rewards: float | None


def read_choosing(given: dict[str, Value]) -> Choosing:
    """What competes, how a template that was sent lately recovers, and how it is learned."""
    fatigue = (
        given["fatigue"].entries(("size", "half_life"), ("size",)) if "fatigue" in given else {}
    )
    warm = (
        given["warm_start"].entries(("campaign", "discount"), ("campaign",))
        if "warm_start" in given
        else {}
    )
    return Choosing(
        no_send=given["no_send"].yes() if "no_send" in given else False,
        fatigue_size=fatigue["size"].number(0.0, LARGEST_FATIGUE) if fatigue else 0.0,
        fatigue_half_life_ms=(
            fatigue["half_life"].duration_ms() if "half_life" in fatigue else FIFTEEN_DAYS_MS
        ),
        warm_start_campaign=warm["campaign"].text() if warm else None,
        warm_start_discount=warm["discount"].share() if "discount" in warm else 0.5,
        learn_at=given["learn_at"].text() if "learn_at" in given else "close",
        clip_rewards=given["clip_rewards"].share() if "clip_rewards" in given else None,
    )
