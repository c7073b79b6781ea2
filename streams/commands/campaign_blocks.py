"""The blocks of a campaign's file that are set together: when it decides, and how it learns."""

from dataclasses import dataclass

from streams.commands.marked_yaml import Value

__all__ = ["Trigger", "read_trigger"]

TEN_MINUTES_MS = 600_000
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
