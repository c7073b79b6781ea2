"""How a company's own log of decisions is to be read: which column means what.

The YAML that says so is read by `streams.commands.log_mapping_file`, which documents its keys.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from schemas.campaign import MOST_TEMPLATES, Campaign, ContextFeature, PolicyParam, Template
from schemas.checks import check_name
from schemas.errors import GroundswellError, MappingError
from streams.agents.schedule import check_runnable
from streams.core.encoding import told_apart
from streams.core.policies import DEFAULT_POLICY

__all__ = [
    "ESTIMATED",
    "GIVEN",
    "HELD_OUT_WAVE",
    "LEARNED_WAVE",
    "UNKNOWN",
    "AttributeColumn",
    "AttributeType",
    "LogMapping",
    "Propensities",
    "RewardColumn",
    "TimeColumn",
    "TimeUnit",
    "campaign_of",
]

# What a log's propensities are: `propensity_kind` of its records.
GIVEN: Final = "given"
ESTIMATED: Final = "estimated"
UNKNOWN: Final = "unknown"

# A log is replayed as two waves of one campaign.
LEARNED_WAVE: Final = 0
HELD_OUT_WAVE: Final = 1

CHANNEL = "log"  # of its templates: nothing is ever sent
DAY_MS = 86_400_000

Format = Literal["csv", "parquet", "avro"]
TimeUnit = Literal["iso", "iso-utc", "s", "ms", "us", "ns"]
AttributeType = Literal["text", "number", "boolean"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeColumn:
    """A column of times: ISO 8601 with a zone, without one in UTC, or a count since 1970."""

    column: str
    unit: TimeUnit = "iso"


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardColumn:
    """A column that says what came back for the row's decision.

    Attributes
    ----------
    amount
        Whether the column is a sum, each unit of which earns `weight`; else it is yes or no.
    time
        When it came; None where the log does not say: at the time of the decision.
    """

    column: str
    kind: str
    weight: float = 1.0
    amount: bool = False
    time: TimeColumn | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeColumn:
    """A column of what was known of the user, under the name that the context calls it by."""

    name: str
    column: str
    type: AttributeType = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Propensities:
    """Where the probabilities of the logged actions come from.

    Attributes
    ----------
    kind
        `GIVEN` in a column, or in one for each action, `ESTIMATED` from the log itself, or
        `UNKNOWN`.
    by
        Columns whose values the logging policy is believed to have told apart, for estimating.
    columns
        Action to the column of its probability: all that could be taken.
    wave
        A column of whole numbers that tells apart the versions of a policy that learned meanwhile.
    """

    kind: str
    column: str | None = None
    by: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    wave: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogMapping:
    """What a log's columns mean, and how it is learned from.

    Attributes
    ----------
    name
        Of the campaign that the log becomes.
    file
        Of the mapping, for errors.
    format
        None: by the log's name.
    user
        Columns that tell users apart; none: every row is a user of its own.
    event
        Every row is an event of this type about its user too; None: of none.
    templates
        The actions, with their features; None: whatever actions the log has, each for itself.
    where
        Only rows with one of these values in a column are read.
    split
        Share of the rows, by time, that is learned from; the rest is held out.
    bad_rows
        Largest share of rows that may be unreadable.
    places
        Where the mapping names a column: file, line and field, for errors.
    """

    name: str
    file: str
    time: TimeColumn
    action: str
    rewards: tuple[RewardColumn, ...]
    propensity: Propensities
    format: Format | None = None
    user: tuple[str, ...] = ()
    event: str | None = None
    attributes: tuple[AttributeColumn, ...] = ()
    context: tuple[ContextFeature, ...] = ()
    templates: tuple[Template, ...] | None = None
    where: Mapping[str, frozenset[str]] = field(default_factory=dict)
    policy: str = DEFAULT_POLICY
    policy_params: Mapping[str, PolicyParam] = field(default_factory=dict)
    attribution_window_ms: int = DAY_MS
    split: float = 0.7
    bad_rows: float = 0.01
    places: Mapping[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is read."""
        times = [reward.time.column for reward in self.rewards if reward.time is not None]
        named = [
            self.time.column,
            self.action,
            *self.user,
            *(reward.column for reward in self.rewards),
            *times,
            *((self.propensity.column,) if self.propensity.column is not None else ()),
            *self.propensity.by,
            *self.propensity.columns.values(),
            *((self.propensity.wave,) if self.propensity.wave is not None else ()),
            *(attribute.column for attribute in self.attributes),
            *self.where,
        ]
        return tuple(dict.fromkeys(named))


def campaign_of(mapping: LogMapping, actions: Sequence[str], at_ms: int) -> Campaign:
    """The campaign that a log is replayed as: it decides nothing and sends nothing.

    Parameters
    ----------
    actions
        That the log has; they become the templates where the mapping has none.
    at_ms
        Time of the definition.

    Raises
    ------
    MappingError
        If there are too many, one has no name that can be used, or the policy cannot be made.
    """
    # an action that was never drawn has a probability all the same
    every = sorted({*actions, *mapping.propensity.columns})
    templates = mapping.templates or _templates_of(mapping, every)
    try:
        campaign = Campaign(
            campaign_id=mapping.name,
            version=1,
            status="logged",
            templates=list(templates),
            waves=2,
            wave_deadline_ms=DAY_MS,  # a logged wave ends with its markers
            policy=mapping.policy,
            policy_params=dict(mapping.policy_params),
            context=list(mapping.context),
            expires_after_ms=DAY_MS,
            attribution_window_ms=mapping.attribution_window_ms,
            allowed_lateness_ms=0,  # rewards are fed before time passes their window
            correction_horizon_ms=mapping.attribution_window_ms,
            reward_weights={r.kind: r.weight for r in mapping.rewards if not r.amount},
            value_weights={r.kind: r.weight for r in mapping.rewards if r.amount},
            changed_at_ms=at_ms,
        )
        campaign = told_apart(campaign)
        check_runnable(campaign)
    except GroundswellError as error:
        raise MappingError(f"{mapping.file}: {error}") from None
    return campaign


def _templates_of(mapping: LogMapping, actions: Sequence[str]) -> tuple[Template, ...]:
    """Each action as a template of its own."""
    if len(actions) > MOST_TEMPLATES:
        raise MappingError(
            f"{mapping.places.get(mapping.action, mapping.file)} names column {mapping.action!r} "
            f"with {len(actions)} actions, at most {MOST_TEMPLATES} can be told apart: map a "
            "coarser column, or keep the most frequent with `where`"
        )
    for action in actions:
        try:
            check_name("an action", action)
        except GroundswellError as error:
            place = mapping.places.get(mapping.action, mapping.file)
            raise MappingError(f"{place}: {error}") from None
    return tuple(Template(id=action, channel=CHANNEL, features={}) for action in actions)
