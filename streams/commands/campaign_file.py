"""A marketer's YAML to a campaign, with errors that name the file's line.

::

    campaign: spring-sale         # its name, for ever
    templates:                    # what can be sent; the only other key that must be there
      - id: upsell-plus
        channel: email
        features: {upsell: 1, price: 0.6, tone: 0.2}
        variables: {subject: You have outgrown your plan}

Every other key has a default:

======================  ====================================================================
key                     where it is absent
======================  ====================================================================
``audience``            everybody; else one of ``segment``, ``users``, ``users_file``
``waves``               1
``start``               at once
``trigger``             none: the schedule decides; else ``event``, ``at_most_every`` (no
                        bound), ``learn_every`` (10m), and no waves: each such event of a user of
                        the audience starts a decision for that user at once
``wave_deadline``       a quarter more than attribution window and allowed lateness
``policy``              ``adaptive-thompson`` with its own defaults
``no_send``             no; yes: sending nothing competes with the templates, and is learned
``fatigue``             none; else ``size``, what a template's reward loses the moment it was
                        sent to the user, and ``half_life`` (15d), by which half has recovered
``warm_start``          none; else ``campaign``, whose policy it begins with, and ``discount``
                        (0.5), what one of its examples counts for
``context``             no features: nobody is told apart
``holdout``             0
``baseline``            none; its ``share`` is 10 %
``cap``                 none; its ``period`` is 24h
``learn_at``            ``close``: a decision is learned once its window is over; ``decision``:
                        at once with reward 0, corrected by all that comes
``clip_rewards``        none; else the share of rewards (99 %) that is not clipped: purchases
                        above that size count as that size, and as 1
``learning``            ``auto``: summed up in the shards (``parts``) where that leaves the same
                        policy, else one by one (``examples``)
``quiet_hours``         none; else ``from`` and ``until``, UTC
``expires_after``       4h
``attribution_window``  24h
``allowed_lateness``    5m
``correction_horizon``  7d, or the window and its lateness where those are longer
``rewards``             ``{click: 1}``, unless there are ``value_rewards``
``value_rewards``       none
======================  ====================================================================

In a template, ``features``, ``variables`` and ``status`` (active) may be absent. Where no template
has features they are learned apart: by the default policy, and by others that keep a model of each,
without any, so that new ones can come while the campaign runs. A policy with one model for all
(``linear-thompson``) gets a feature for each, and no new template once the first wave has started.
"""

import csv
import re
from pathlib import Path

from schemas.campaign import MOST_TEMPLATES, MOST_WAVES, Campaign, ContextFeature, Template
from schemas.errors import CampaignError, GroundswellError
from streams.agents.definition import check_size
from streams.agents.schedule import check_runnable
from streams.commands.campaign_blocks import read_choosing, read_trigger
from streams.commands.marked_yaml import Value, load
from streams.core.encoding import told_apart
from streams.core.policies import DEFAULT_POLICY

__all__ = ["parse_campaign", "read_campaign", "read_context", "read_policy"]

KEYS = (
    "campaign",
    "audience",
    "waves",
    "start",
    "trigger",
    "wave_deadline",
    "policy",
    "no_send",
    "fatigue",
    "warm_start",
    "learn_at",
    "clip_rewards",
    "context",
    "encoder",
    "holdout",
    "baseline",
    "cap",
    "quiet_hours",
    "expires_after",
    "attribution_window",
    "allowed_lateness",
    "correction_horizon",
    "rewards",
    "value_rewards",
    "learning",
    "templates",
)
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
# How the record calls what the file calls otherwise.
RECORD_NAMES = {"reward_weights": "rewards", "value_weights": "value_rewards"}


def read_campaign(path: Path, now_ms: int) -> Campaign:
    """The campaign of a file: active, version 1, changed now.

    Raises
    ------
    CampaignError
        One line with file, line, field, value, bound and cure.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CampaignError(f"{path} cannot be read: {error.strerror}: check the path") from None
    return parse_campaign(raw, str(path), path.parent, now_ms)


def parse_campaign(raw: bytes, file: str, folder: Path, now_ms: int) -> Campaign:
    """As `read_campaign`, from bytes.

    Parameters
    ----------
    file
        Its name, for errors.
    folder
        Where a relative ``users_file`` is looked for.
    """
    root = load(raw, file)
    campaign = _campaign(root, folder, now_ms)
    try:
        campaign = told_apart(campaign)
        check_runnable(campaign)
        check_size(campaign)
    except GroundswellError as error:
        raise _placed_policy(root, error) from None
    return campaign


def _campaign(root: Value, folder: Path, now_ms: int) -> Campaign:
    given = root.entries(KEYS, required=("campaign", "templates"))

    def duration_ms(key: str, default_ms: int, least_ms: int = 1) -> int:
        return given[key].duration_ms(least_ms) if key in given else default_ms

    window_ms = duration_ms("attribution_window", DAY_MS)
    lateness_ms = duration_ms("allowed_lateness", 300_000, least_ms=0)
    closes_ms = window_ms + lateness_ms
    users, segment = _audience(given.get("audience"), folder)
    policy, params = read_policy(given.get("policy"))
    baseline_action, baseline_share = _baseline(given.get("baseline"))
    cap_sends, cap_period_ms = _cap(given.get("cap"))
    quiet_from, quiet_until = _quiet(given.get("quiet_hours"))
    weights = _weights(given.get("rewards"))
    value_weights = _weights(given.get("value_rewards"))
    if "rewards" not in given and not value_weights:
        weights = {"click": 1.0}
    trigger = read_trigger(given)
    choosing = read_choosing(given)
    templates = _templates(given["templates"])
    context = read_context(given.get("context"))
    try:
        return Campaign(
            campaign_id=given["campaign"].text(),
            version=1,
            status="active",
            templates=templates,
            waves=given["waves"].integer(1, MOST_WAVES) if "waves" in given else 1,
            wave_deadline_ms=duration_ms("wave_deadline", closes_ms + closes_ms // 4),
            policy=policy,
            policy_params=params,
            context=context,
            expires_after_ms=duration_ms("expires_after", 4 * HOUR_MS),
            attribution_window_ms=window_ms,
            allowed_lateness_ms=lateness_ms,
            correction_horizon_ms=duration_ms("correction_horizon", max(7 * DAY_MS, closes_ms)),
            reward_weights=weights,
            value_weights=value_weights,
            changed_at_ms=now_ms,
            audience_users=users,
            audience_segment=segment,
            starts_at_ms=given["start"].time_ms() if "start" in given else None,
            holdout=given["holdout"].share() if "holdout" in given else 0.0,
            baseline_action=baseline_action,
            baseline_share=baseline_share,
            cap_sends=cap_sends,
            cap_period_ms=cap_period_ms,
            quiet_from_minute=quiet_from,
            quiet_until_minute=quiet_until,
            trigger_event=trigger.event,
            trigger_every_ms=trigger.every_ms,
            learn_every_ms=trigger.learn_every_ms,
            no_send=choosing.no_send,
            fatigue_size=choosing.fatigue_size,
            fatigue_half_life_ms=choosing.fatigue_half_life_ms,
            warm_start_campaign=choosing.warm_start_campaign,
            warm_start_discount=choosing.warm_start_discount,
            learn_at=choosing.learn_at,
            clip_rewards=choosing.clip_rewards,
            learning=given["learning"].text() if "learning" in given else "auto",
            encoder=given["encoder"].text() if "encoder" in given else None,
        )
    except CampaignError as error:
        raise _placed(root, error) from None


def _templates(value: Value) -> list[Template]:
    items = value.items(name_key="id")
    if not 1 <= len(items) <= MOST_TEMPLATES:
        raise value.error(f"must be 1 to {MOST_TEMPLATES} of them, got {len(items)}: add one")
    templates = [_template(item) for item in items]
    first: dict[str, Value] = {}
    for template, item in zip(templates, items, strict=True):
        if template.id in first:
            raise item.error(
                f"stands here again, first on line {first[template.id].line}: rename one"
            )
        first[template.id] = item
    return templates


def _template(item: Value) -> Template:
    given = item.entries(
        ("id", "channel", "features", "variables", "status"), required=("id", "channel")
    )
    features = given["features"].pairs() if "features" in given else {}
    variables = given["variables"].pairs() if "variables" in given else {}
    fields = {
        "id": given["id"].text(),
        "channel": given["channel"].text(),
        "features": {name: value.number() for name, value in features.items()},
        "variables": {name: value.text() for name, value in variables.items()},
        "status": given["status"].text() if "status" in given else "active",
    }
    try:
        return Template(**fields)  # type: ignore[arg-type]
    except CampaignError as error:
        raise _placed(item, error) from None


def read_context(value: Value | None) -> list[ContextFeature]:
    """What a policy sees of a user."""
    if value is None:
        return []
    features = []
    for number, item in enumerate(value.items()):
        given = item.entries(("attribute", "event", "center", "scale", "one_of", "buckets"))
        for key in ("center", "scale", "one_of", "buckets"):
            if key in given and "event" in given:
                raise given[key].error("goes with an attribute: an event is counted, remove it")
        for key in ("center", "scale"):
            if key in given and ("one_of" in given or "buckets" in given):
                raise given[key].error("goes with a number, not one_of or buckets: remove it")
        try:
            features.append(
                ContextFeature(
                    attribute=given["attribute"].text() if "attribute" in given else None,
                    event=given["event"].text() if "event" in given else None,
                    center=given["center"].number() if "center" in given else 0.0,
                    scale=given["scale"].number() if "scale" in given else 1.0,
                    one_of=[v.text() for v in given["one_of"].items()] if "one_of" in given else [],
                    buckets=given["buckets"].integer(1, 256) if "buckets" in given else 0,
                )
            )
        except CampaignError as error:
            if str(error).startswith(item.file + ":"):
                raise
            named = [given[k] for k in ("scale", "one_of") if k in given and k in str(error)]
            raise (named or [item])[0].error_at(str(error)) from None
        if features[-1] in features[:number]:
            raise item.error("stands twice: remove one, the same column tells nothing new")
    return features


def _audience(value: Value | None, folder: Path) -> tuple[list[str] | None, str | None]:
    if value is None:
        return None, None
    given = value.entries(("segment", "users", "users_file"))
    if len(given) != 1:
        raise value.error(
            f"must have one of segment, users and users_file, got {', '.join(given) or 'none'}: "
            "keep one, or remove the audience to mean everybody"
        )
    if "segment" in given:
        return None, given["segment"].text()
    if "users" in given:
        users = [item.text() for item in given["users"].items()]
    else:
        users = _users_in(given["users_file"], folder)
    if not users:
        raise value.error("names no user: name one, or remove the audience to mean everybody")
    return list(dict.fromkeys(users)), None


def _users_in(value: Value, folder: Path) -> list[str]:
    path = folder / value.text()
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = [row for row in csv.reader(lines) if row]
    except OSError as error:
        raise value.error(f"{path} cannot be read: {error.strerror}: check the path") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise value.error(f"{path} is no CSV in UTF-8 ({error}): save it as one") from None
    column = 0
    if rows and "user_id" in rows[0]:
        column = rows[0].index("user_id")
        rows = rows[1:]
    elif rows and len(rows[0]) > 1:
        raise value.error(
            f"{path} has no column user_id, but {', '.join(rows[0])[:80]}: name the column user_id"
        )
    return [row[column].strip() for row in rows if len(row) > column and row[column].strip()]


def read_policy(
    value: Value | None,
) -> tuple[str, dict[str, bool | int | float | str | list[str]]]:
    """A policy's name and its parameters."""
    if value is None:
        return DEFAULT_POLICY, {}
    if not value.is_mapping:
        return value.text(), {}
    given = value.entries(("name", "params"), required=("name",))
    params = given["params"].pairs() if "params" in given else {}
    return given["name"].text(), {name: param.plain() for name, param in params.items()}


def _baseline(value: Value | None) -> tuple[str | None, float]:
    if value is None:
        return None, 0.0
    given = value.entries(("action", "share"), required=("action",))
    return given["action"].text(), given["share"].share() if "share" in given else 0.1


def _cap(value: Value | None) -> tuple[int | None, int]:
    if value is None:
        return None, DAY_MS
    given = value.entries(("sends", "period"), required=("sends",))
    period_ms = given["period"].duration_ms() if "period" in given else DAY_MS
    return given["sends"].integer(1, 32), period_ms


def _quiet(value: Value | None) -> tuple[int | None, int | None]:
    if value is None:
        return None, None
    given = value.entries(("from", "until"), required=("from", "until"))
    return given["from"].minute_of_day(), given["until"].minute_of_day()


def _weights(value: Value | None) -> dict[str, float]:
    return {} if value is None else {name: each.number() for name, each in value.pairs().items()}


def _placed(at: Value, error: CampaignError) -> CampaignError:
    """The record's error, with the line of the field that its message begins with."""
    message = str(error)
    if message.startswith(at.file + ":"):
        return error
    field = message.split(maxsplit=1)[0].rstrip(":,").removesuffix("_ms")
    head, dot, rest = field.partition(".")
    field = RECORD_NAMES.get(head, head) + dot + rest
    if at.field and field == "templates.id":
        field = f"{at.field}.id"
    while field not in at.places and "." in field:
        field = field.rpartition(".")[0]
    return at.places.get(field, at).error_at(message)


def _placed_policy(root: Value, error: GroundswellError) -> CampaignError:
    """What a policy or segment refused, with the line of what it was given."""
    if isinstance(error, CampaignError):
        return _placed(root, error)
    message, places = str(error), root.places
    fields = [f"policy.params.{name}" for name in re.findall(r"'([^']+)'", message)]
    if "d_user" in message:
        fields.append("context")
    for field in (*fields, "policy.params", "policy.name", "policy", "templates"):
        if field in places:
            return places[field].error_at(message)
    return root.error_at(message)
