"""A campaign's definition, and the record that starts one of its waves in a shard."""

from dataclasses import dataclass, field

from schemas.checks import check_finite, check_name, check_share, check_text
from schemas.errors import CampaignError
from schemas.ids import NO_SEND, TIME_MARKER

__all__ = ["Campaign", "ContextFeature", "PolicyParam", "Template", "WaveStart"]

PolicyParam = bool | int | float | str | list[str]

STATUSES = ("active", "paused", "stopped", "logged")
TEMPLATE_STATUSES = ("active", "paused", "retired")
LEARNING = ("auto", "examples", "parts")
LEARN_AT = ("close", "decision")
MOST_TEMPLATES = 200
MOST_WAVES = 1000  # of an audience's instalments
LAST_WAVE = 2**31 - 1  # of a triggered campaign's periods: what a state key holds
MINUTES_A_DAY = 1440
LARGEST_FATIGUE = 1e6  # in units of reward


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """One notification that can be sent: an action of the campaign's policy."""

    id: str
    channel: str
    features: dict[str, float]
    variables: dict[str, str] = field(default_factory=dict)
    status: str = "active"

    def __post_init__(self) -> None:
        check_name("templates.id", self.id)
        check_name(f"templates.{self.id}.channel", self.channel)
        if self.id == NO_SEND:
            raise CampaignError(f"templates.id may not be {NO_SEND!r}: it stands for sending none")
        for name, value in self.features.items():
            check_finite(f"templates.{self.id}.features.{name}", value, CampaignError)
        if self.status not in TEMPLATE_STATUSES:
            raise CampaignError(
                f"templates.{self.id}.status must be one of {', '.join(TEMPLATE_STATUSES)}, "
                f"got {self.status!r}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextFeature:
    """One feature of a user that the policy sees, as one or more columns."""

    attribute: str | None = None
    event: str | None = None
    center: float = 0.0
    scale: float = 1.0
    one_of: list[str] = field(default_factory=list)
    buckets: int = 0

    def __post_init__(self) -> None:
        if (self.attribute is None) == (self.event is None):
            raise CampaignError("context: each feature names an attribute or an event, not both")
        name = self.attribute or self.event
        check_finite(f"context.{name}.center", self.center, CampaignError)
        if not (self.scale > 0 and self.scale < float("inf")):
            raise CampaignError(f"context.{name}.scale must be above 0, got {self.scale}")
        if not 0 <= self.buckets <= 256:
            raise CampaignError(f"context.{name}.buckets must be 0 to 256, got {self.buckets}")
        if self.one_of and self.buckets:
            raise CampaignError(f"context.{name} has one_of and buckets: keep one of them")


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """Goal, actions, audience and schedule."""

    campaign_id: str
    version: int
    status: str
    templates: list[Template]
    waves: int
    wave_deadline_ms: int
    policy: str
    context: list[ContextFeature]
    expires_after_ms: int
    attribution_window_ms: int
    allowed_lateness_ms: int
    correction_horizon_ms: int
    reward_weights: dict[str, float]
    changed_at_ms: int
    audience_users: list[str] | None = None
    audience_segment: str | None = None
    starts_at_ms: int | None = None
    policy_params: dict[str, PolicyParam] = field(default_factory=dict)
    holdout: float = 0.0
    baseline_action: str | None = None
    baseline_share: float = 0.0
    cap_sends: int | None = None
    cap_period_ms: int = 86_400_000
    quiet_from_minute: int | None = None
    quiet_until_minute: int | None = None
    value_weights: dict[str, float] = field(default_factory=dict)
    trigger_event: str | None = None
    trigger_every_ms: int = 0
    learn_every_ms: int = 600_000
    no_send: bool = False
    fatigue_size: float = 0.0
    fatigue_half_life_ms: int = 1_296_000_000
    warm_start_campaign: str | None = None
    warm_start_discount: float = 0.5
    learn_at: str = "close"
    clip_rewards: float | None = None
    learning: str = "auto"
    encoder: str | None = None

    def __post_init__(self) -> None:
        check_name("campaign", self.campaign_id)
        if self.status not in STATUSES:
            raise CampaignError(f"status must be one of {', '.join(STATUSES)}, got {self.status!r}")
        if self.learning not in LEARNING:
            raise CampaignError(
                f"learning must be one of {', '.join(LEARNING)}, got {self.learning!r}"
            )
        self._check_templates()
        self._check_audience()
        self._check_times()
        self._check_trigger()
        self._check_choice()
        if self.encoder is not None:
            check_name("encoder", self.encoder)
            if self.status == "logged":
                raise CampaignError("encoder: a replayed log has no profiles to encode, remove it")
        for table in ("reward_weights", "value_weights"):
            for kind, weight in getattr(self, table).items():
                check_finite(f"{table}.{kind}", weight, CampaignError)
        if not self.reward_weights and not self.value_weights:
            raise CampaignError("rewards: name at least one kind of feedback, such as click: 1")

    @property
    def triggered(self) -> bool:
        """Whether an event of a user starts a decision, and no schedule."""
        return self.trigger_event is not None

    @property
    def retired(self) -> list[str]:
        """Templates that do not come back."""
        return [template.id for template in self.templates if template.status == "retired"]

    @property
    def closes_after_ms(self) -> int:
        """Milliseconds after a decision at which it is closed: its window and the lateness."""
        return self.attribution_window_ms + self.allowed_lateness_ms

    def _check_templates(self) -> None:
        ids = [template.id for template in self.templates]
        if not 1 <= len(ids) <= MOST_TEMPLATES:
            raise CampaignError(f"templates: a campaign has 1 to {MOST_TEMPLATES}, got {len(ids)}")
        twice = sorted({name for name in ids if ids.count(name) > 1})
        if twice:
            raise CampaignError(f"templates: {', '.join(twice)} stands twice: rename one")
        if self.baseline_share and self.baseline_action is None:
            raise CampaignError("baseline.share is set: name the baseline.action too")
        if self.baseline_action is not None and self.baseline_action not in ids:
            raise CampaignError(
                f"baseline.action {self.baseline_action!r} is none of the templates "
                f"({', '.join(ids[:10])}): add it or name one of them"
            )

    def _check_audience(self) -> None:
        check_share("holdout", self.holdout)
        check_share("baseline.share", self.baseline_share)
        if self.holdout + self.baseline_share > 1.0:
            raise CampaignError(
                f"holdout and baseline.share add up to {self.holdout + self.baseline_share}: "
                "at most 1 can be given away"
            )
        if self.audience_users is not None and self.audience_segment is not None:
            raise CampaignError("audience: name users or a segment, not both")
        for user in self.audience_users or ():
            check_text("audience.users", user, 256, CampaignError)
        if not 1 <= self.waves <= MOST_WAVES:
            raise CampaignError(f"waves must be 1 to {MOST_WAVES}, got {self.waves}")
        if self.cap_sends is not None and not 1 <= self.cap_sends <= 32:
            raise CampaignError(f"cap.sends must be 1 to 32, got {self.cap_sends}")

    def _check_trigger(self) -> None:
        if self.trigger_event is not None:
            check_text("trigger.event", self.trigger_event, 128, CampaignError)
            if self.trigger_event == TIME_MARKER:
                raise CampaignError(
                    f"trigger.event {TIME_MARKER} is reserved for replayed logs: name another event"
                )
            if self.waves != 1:
                raise CampaignError(
                    f"waves must be absent with a trigger, got {self.waves}: a triggered campaign "
                    "has a wave for every learn_every, as long as it is active"
                )
            if self.status == "logged":
                raise CampaignError("trigger: a replayed log has none, remove it")
        if self.trigger_every_ms < 0:
            raise CampaignError(
                f"trigger.at_most_every_ms must be at least 0, got {self.trigger_every_ms}: 0 "
                "is no bound"
            )
        if self.learn_every_ms < 1000:
            raise CampaignError(
                f"trigger.learn_every_ms must be at least 1000, got {self.learn_every_ms}: each "
                "time is a copy of the policy"
            )

    def _check_choice(self) -> None:
        if not 0.0 <= self.fatigue_size <= LARGEST_FATIGUE:
            raise CampaignError(
                f"fatigue.size must lie in 0 to {LARGEST_FATIGUE:g}, got {self.fatigue_size}: give "
                "the reward that a repeat costs"
            )
        if self.fatigue_half_life_ms <= 0:
            raise CampaignError(
                f"fatigue.half_life_ms must be above 0, got {self.fatigue_half_life_ms}: say when "
                "half has recovered"
            )
        if self.learn_at not in LEARN_AT:
            raise CampaignError(
                f"learn_at must be one of {', '.join(LEARN_AT)}, got {self.learn_at!r}"
            )
        if self.clip_rewards is not None and not 0.5 <= self.clip_rewards <= 1.0:
            raise CampaignError(
                f"clip_rewards must lie in 0.5 to 1, got {self.clip_rewards}: give the share of "
                "rewards that is not to be clipped"
            )
        if self.warm_start_campaign is not None:
            check_name("warm_start.campaign", self.warm_start_campaign)
            if self.warm_start_campaign == self.campaign_id:
                raise CampaignError(
                    f"warm_start.campaign {self.campaign_id!r} is the campaign itself: name another"
                )
        check_share("warm_start.discount", self.warm_start_discount)

    def _check_times(self) -> None:
        for name in (
            "wave_deadline_ms",
            "expires_after_ms",
            "attribution_window_ms",
            "cap_period_ms",
        ):
            if getattr(self, name) <= 0:
                raise CampaignError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.allowed_lateness_ms < 0:
            raise CampaignError(f"allowed_lateness_ms may not be {self.allowed_lateness_ms}")
        if self.correction_horizon_ms < self.closes_after_ms:
            raise CampaignError(
                f"correction_horizon of {self.correction_horizon_ms} ms ends before the window "
                f"and its lateness ({self.closes_after_ms} ms): make it longer"
            )
        for name in ("quiet_from_minute", "quiet_until_minute"):
            minute = getattr(self, name)
            if minute is not None and not 0 <= minute < MINUTES_A_DAY:
                raise CampaignError(f"{name} must be 0 to 1439, got {minute}")
        if (self.quiet_from_minute is None) != (self.quiet_until_minute is None):
            raise CampaignError("quiet hours need both an hour that they start and one they end")


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveStart:
    """Tells one shard of the users to decide for an instalment of the audience."""

    campaign: Campaign
    wave: int
    shard: int
    policy_version: int
    encoder_version: str
    share_from: float
    share_until: float
    started_at_ms: int
    deadline_ms: int
    users: list[str] | None = None
    half_lives_ms: list[float] | None = None

    @property
    def is_last(self) -> bool:
        """Whether no wave of the campaign comes after it; periods of a trigger go on."""
        return not self.campaign.triggered and self.wave == self.campaign.waves - 1
