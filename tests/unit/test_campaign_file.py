"""A marketer's YAML: what it means, and what each mistake is told with its line and cure."""

from pathlib import Path

import pytest

from schemas.campaign import Campaign, ContextFeature, Template
from schemas.errors import CampaignError
from schemas.wire import Codec
from streams.commands.campaign_file import parse_campaign, read_campaign

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

FULL = """\
campaign: spring-sale
audience: {segment: 'plan in ("free", "plus") and reachable("email")'}
waves: 6
start: 2026-11-22T09:00:00Z        # optional
wave_deadline: 2h
policy: {name: linear-thompson, params: {floor: 0.02}}
context:
  - {attribute: age, center: 40, scale: 15}
  - {attribute: country, one_of: [DE, NO, yes]}
  - {event: app_open}
  - {attribute: city, buckets: 8}
holdout: 5 %            # or 0.05
baseline: {action: monthly-letter, share: 10 %}
cap: {sends: 3, period: 7d}
quiet_hours: {from: 22:00, until: "07:00"}    # UTC
expires_after: 4h
attribution_window: 24h
allowed_lateness: 5m
correction_horizon: 7d
rewards: {click: 1, purchase: 2}
value_rewards: {purchase: 0.01}
learning: examples
templates:
  - id: upsell-plus
    channel: email
    features: {upsell: 1, price: 0.6, tone: 0.2}
    variables: {subject: You have outgrown your plan}
  - id: monthly-letter
    channel: email
    features: {upsell: 0, price: -1e-3}
    status: paused
"""

SHORT = """\
campaign: hello
templates:
  - {id: a, channel: email}
  - {id: b, channel: push}
"""


def parse(text: str | bytes, folder: Path = Path()) -> Campaign:
    raw = text if isinstance(text, bytes) else text.encode()
    return parse_campaign(raw, "sale.yaml", folder, 7)


def test_everything_that_can_be_said_is_understood():
    campaign = parse(FULL)
    assert campaign == Campaign(
        campaign_id="spring-sale",
        version=1,
        status="active",
        audience_segment='plan in ("free", "plus") and reachable("email")',
        waves=6,
        starts_at_ms=1_795_338_000_000,
        wave_deadline_ms=2 * HOUR_MS,
        policy="linear-thompson",
        policy_params={"floor": 0.02},
        context=[
            ContextFeature(attribute="age", center=40.0, scale=15.0),
            ContextFeature(attribute="country", one_of=["DE", "NO", "yes"]),
            ContextFeature(event="app_open"),
            ContextFeature(attribute="city", buckets=8),
        ],
        holdout=0.05,
        baseline_action="monthly-letter",
        baseline_share=0.1,
        cap_sends=3,
        cap_period_ms=7 * DAY_MS,
        quiet_from_minute=22 * 60,
        quiet_until_minute=7 * 60,
        expires_after_ms=4 * HOUR_MS,
        attribution_window_ms=DAY_MS,
        allowed_lateness_ms=300_000,
        correction_horizon_ms=7 * DAY_MS,
        reward_weights={"click": 1.0, "purchase": 2.0},
        value_weights={"purchase": 0.01},
        learning="examples",
        templates=[
            Template(
                id="upsell-plus",
                channel="email",
                features={"upsell": 1.0, "price": 0.6, "tone": 0.2},
                variables={"subject": "You have outgrown your plan"},
            ),
            Template(
                id="monthly-letter",
                channel="email",
                features={"upsell": 0.0, "price": -0.001},
                status="paused",
            ),
        ],
        changed_at_ms=7,
    )


def test_a_campaign_from_a_file_fits_the_contract():
    for text in (FULL, SHORT, SHORT + "policy: {name: fixed, params: {order: [b, a]}}\n"):
        campaign = parse(text)
        codec = Codec()
        assert codec.decode(codec.encode("campaigns", campaign), Campaign) == campaign


def test_all_but_name_and_templates_has_a_default():
    campaign = parse(SHORT)
    assert campaign == Campaign(
        campaign_id="hello",
        version=1,
        status="active",
        waves=1,
        wave_deadline_ms=(DAY_MS + 300_000) * 5 // 4,
        policy="adaptive-thompson",
        context=[],
        expires_after_ms=4 * HOUR_MS,
        attribution_window_ms=DAY_MS,
        allowed_lateness_ms=300_000,
        correction_horizon_ms=7 * DAY_MS,
        reward_weights={"click": 1.0},
        templates=[
            Template(id="a", channel="email", features={}),
            Template(id="b", channel="push", features={}),
        ],
        changed_at_ms=7,
    )


def test_defaults_go_with_what_is_given():
    assert parse(SHORT + "attribution_window: 14d\n").correction_horizon_ms == (
        14 * DAY_MS + 300_000
    )
    assert parse(SHORT + "value_rewards: {purchase: 1}\n").reward_weights == {}
    assert parse(SHORT + "baseline: {action: a}\n").baseline_share == 0.1
    assert parse(SHORT + "cap: {sends: 1}\n").cap_period_ms == DAY_MS
    assert parse(SHORT + "policy: uniform\n").policy == "uniform"
    explores = parse(
        SHORT + "policy: {name: adaptive-thompson, params: {explore_last_wave: true}}\n"
    )
    assert explores.policy_params == {"explore_last_wave": True}


@pytest.mark.parametrize(
    ("text", "ms"),
    [("500ms", 500), ("4s", 4000), ("5m", 300_000), ("2 h", 2 * HOUR_MS), ("1.5d", 36 * HOUR_MS)],
)
def test_durations(text, ms):
    assert parse(SHORT + f"expires_after: {text}\n").expires_after_ms == ms


@pytest.mark.parametrize(("text", "share"), [("5 %", 0.05), ("5%", 0.05), ("0.05", 0.05), ("0", 0)])
def test_shares(text, share):
    assert parse(SHORT + f"holdout: {text}\n").holdout == share


def test_the_audience_can_be_listed_here_or_in_a_file(tmp_path):
    listed = parse(SHORT + "audience: {users: [u1, 42, u1]}\n")
    assert listed.audience_users == ["u1", "42"]
    (tmp_path / "people.csv").write_text("age,user_id\n3,u1\n4,u2\n\n5,u1\n")
    (tmp_path / "ids.csv").write_text("u1\nu2\n")
    for name in ("people.csv", "ids.csv"):
        (tmp_path / "c.yaml").write_text(SHORT + f"audience: {{users_file: {name}}}\n")
        assert read_campaign(tmp_path / "c.yaml", 7).audience_users == ["u1", "u2"]


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        # keys
        ("waves: 6", "wavs: 6", 3, "wavs is no key: did you mean waves?"),
        ("waves: 6", "xyzzy: 6", 3, "xyzzy is no key: the keys are allowed_lateness, "),
        ("    channel: email", "    chanel: email", 25, "of templates.upsell-plus: did you mean"),
        ("share: 10 %", "shore: 10 %", 13, "baseline.shore is no key of baseline: did you mean"),
        ("campaign: spring-sale\n", "", 1, "the file lacks the key campaign: add it"),
        ("    channel: email\n", "", 24, "templates.upsell-plus lacks the key channel: add it"),
        ("waves: 6", "waves: 6\nwaves: 7", 4, "waves stands here again, first on line 3"),
        # types
        ("waves: 6", "waves: six", 3, "waves must be a number, got 'six': write one from 1 to"),
        ("waves: 6", "waves: 2.5", 3, "waves must be a whole number, got 2.5"),
        ("waves: 6", "waves:", 3, "waves is empty: give it a value, or remove the line"),
        ("waves: 6", "waves: [6]", 3, "waves must be a text, got a list"),
        ("waves: 6", "waves: {a: 6}", 3, "waves must be a text, got keys and values"),
        ("price: 0.6", "price: cheap", 26, "templates.upsell-plus.features.price must be a number"),
        ("rewards: {click: 1, purchase: 2}", "rewards: click", 20, "rewards must have keys and"),
        ("one_of: [DE, NO, yes]", "one_of: DE", 9, "context.2.one_of must be a list, got 'DE'"),
        ("ng: examples", "ng: pieces", 22, "learning must be one of auto, examples, parts"),
        # bounds
        ("waves: 6", "waves: 0", 3, "waves must be a number, got 0: write one from 1 to 1000"),
        ("waves: 6", "waves: .inf", 3, "waves must be a number, got '.inf'"),
        ("sends: 3", "sends: 99", 14, "cap.sends must be a number, got 99: write one from 1 to 32"),
        ("buckets: 8", "buckets: 999", 11, "write one from 1 to 256"),
        ("5 % ", "105 % ", 12, "holdout must lie in 0 to 1 (0 % to 100 %), got 105 %: write 5 %"),
        ("5 % ", "few ", 12, "holdout must be a share, got 'few': write 5 % or 0.05"),
        ("5 % ", "95 % ", 12, "holdout and baseline.share add up to 1.05"),
        ("price: 0.6", "price: 1e999", 26, "features.price must be a number"),
        ("scale: 15", "scale: 0", 8, "context.age.scale must be above 0, got 0.0"),
        # durations and times
        (
            "deadline: 2h",
            "deadline: 2 hours",
            5,
            "must be a duration, got '2 hours': write a number",
        ),
        ("deadline: 2h", "deadline: 7200", 5, "must be a duration, got '7200'"),
        ("deadline: 2h", "deadline: 0h", 5, "wave_deadline must lie in 1ms to 3650d, got 0h"),
        ("deadline: 2h", "deadline: 99999999999d", 5, "must lie in 1ms to 3650d"),
        ("horizon: 7d", "horizon: 1h", 19, "correction_horizon of 3600000 ms ends before the"),
        ("09:00:00Z", "09:00:00", 4, "start must say its time zone, got '2026-11-22T09:00:00'"),
        ("2026-11-22T09:00:00Z", "tomorrow", 4, "start must be a time, got 'tomorrow': write it"),
        ("2026-", "1926-", 4, "start must lie after 1970"),
        ("22:00", "25:00", 15, "quiet_hours.from must be a time of day from 00:00 to 23:59, got"),
        ('22:00, until: "07:00"', "22:00", 15, "quiet_hours lacks the key until: add it"),
        # what belongs together
        ("campaign: spring", "campaign: -spring", 1, "campaign must be 1 to 128 letters"),
        ("action: monthly", "action: weekly", 13, "baseline.action 'weekly-letter' is none of"),
        ("id: upsell-plus", "id: no-send", 24, "templates.id may not be 'no-send'"),
        ("id: upsell-plus", "id: monthly-letter", 28, "stands here again, first on line 24"),
        ("channel: email", "channel: e mail", 25, "templates.upsell-plus.channel must be 1 to 128"),
        ("status: paused", "status: off", 31, "monthly-letter.status must be one of active"),
        ("{event: app_open}", "{event: app_open, scale: 2}", 10, "goes with an attribute"),
        ("{event: app_open}", "{event: app_open, attribute: a}", 10, "an attribute or an event"),
        ("{event: app_open}", "{}", 10, "each feature names an attribute or an event"),
        ("one_of: [", "scale: 2, one_of: [", 9, "goes with a number, not one_of or buckets"),
        ("buckets: 8", "one_of: [a], buckets: 8", 11, "has one_of and buckets: keep one"),
        ("{event: app_open}", "{attribute: age, center: 40, scale: 15}", 10, "stands twice"),
        ("{segment:", "{users: [a], segment:", 2, "must have one of segment, users and"),
        (
            '{segment: \'plan in ("free", "plus") and reachable("email")\'}',
            "{users: []}",
            2,
            "audience names no user",
        ),
        # policy and segment
        ("linear-thompson", "linear-tomson", 6, "there is no policy 'linear-tomson': did you mean"),
        ("floor: 0.02", "flor: 0.02", 6, "has no parameter 'flor': did you mean 'floor'?"),
        ("floor: 0.02", "floor: 3", 6, "parameter 'floor' must lie in [0, 1], got 3"),
        ("floor: 0.02", "floor: low", 6, "parameter 'floor' must be of type float, got 'low'"),
        ("buckets: 8", "buckets: 256", 8, "(1 + d_user)(1 + d_action) must be at most 512"),
        (
            "{name: linear-thompson, params: {floor: 0.02}}",
            "\n  name: fixed\n  params:\n    action: upsel-plus",
            9,
            "wants action 'upsel-plus', which the campaign has not: did you mean 'upsell-plus'?",
        ),
        ("plan in", "plan on", 2, "audience.segment, column 6: invalid syntax"),
        ("reachable(", "reachible(", 2, "found the unknown function 'reachible'; allowed: reach"),
        # YAML itself
        ("waves: 6", "waves: [6", 4, "not YAML: while parsing a flow sequence, did not find"),
        ("waves: 6", "waves: 6: 7", 3, "not YAML: mapping values are not allowed"),
        ("waves: 6", "\twaves: 6", 3, "not YAML"),
        ("waves: 6", "waves: \x07", 3, "control characters are not allowed"),
        ("waves: 6", "waves: *six", 3, "aliases (*name) are not taken: write it out"),
        ("waves: 6", "waves: !!python/name:os.system 6", 3, "has the tag"),
        ("waves: 6", "waves: " + "[" * 30 + "]" * 30, 3, "nested more than 16 deep"),
        ("waves: 6", "? [a]\n: 6", 1, "has a key on line 3 that is no text"),
        ("waves: 6", "---\nwaves: 6", 3, "expected a single document"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_cure(old, new, line, message):
    assert old in FULL
    with pytest.raises(CampaignError) as caught:
        parse(FULL.replace(old, new, 1))
    told = str(caught.value)
    assert told.startswith(f"sale.yaml:{line}: ")
    assert message in told
    assert told.isprintable()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "sale.yaml:1: the file is empty: write campaign: NAME and templates"),
        (b"a: 1\nb: \xff\n", "sale.yaml:2: the file is not UTF-8: save it as UTF-8"),
        (b"- a\n", "sale.yaml:1: the file must have keys and values, got a list"),
        (b"a" * 1_000_001, "sale.yaml:1: the file may have 1000000 bytes, got 1000001"),
        (b"campaign: x\ntemplates: []\n", "sale.yaml:2: templates must be 1 to 200 of them, got 0"),
        (b'campaign: x\n"a\\n\\e[31m": 1\ntemplates: []\n', "sale.yaml:2: a  [31m is no key"),
    ],
)
def test_a_file_that_is_no_campaign_is_told_why(raw, message):
    with pytest.raises(CampaignError) as caught:
        parse(raw)
    assert str(caught.value).startswith(message)


def test_rewards_may_not_be_empty():
    with pytest.raises(CampaignError, match=r"sale.yaml:5: rewards: name at least one kind"):
        parse(SHORT + "rewards: {}\n")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "cannot be read: No such file or directory: check the path"),
        ("wide.csv", "id,age\n1,2\n", "has no column user_id, but id, age"),
        ("bytes.csv", "u1\n\udcff\n", "is no CSV in UTF-8"),
        ("empty.csv", "", "names no user"),
    ],
)
def test_a_users_file_that_cannot_be_used_is_told_why(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content, errors="surrogateescape")
    with pytest.raises(CampaignError, match=r"^sale.yaml:5: audience") as caught:
        parse(SHORT + f"audience: {{users_file: {name}}}\n", tmp_path)
    assert message in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CampaignError, match=r"none.yaml cannot be read: No such file"):
        read_campaign(tmp_path / "none.yaml", 7)


# ---- triggers


TRIGGERED = SHORT + "trigger: {event: cart-abandoned, at_most_every: 24h, learn_every: 5m}\n"


def test_a_trigger_takes_the_place_of_a_schedule():
    campaign = parse(TRIGGERED)
    assert campaign.triggered
    assert campaign.trigger_event == "cart-abandoned"
    assert (campaign.trigger_every_ms, campaign.learn_every_ms) == (DAY_MS, 300_000)
    plain = parse(SHORT + "trigger: {event: app_open}\n")
    assert (plain.trigger_every_ms, plain.learn_every_ms) == (0, 600_000)
    assert not parse(SHORT).triggered


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("trigger: {at_most_every: 1h}", ":5: trigger lacks the key event"),
        ("trigger: {event: ''}", ":5: trigger.event"),
        ("trigger: {event: groundswell.time}", ":5: trigger.event groundswell.time is reserved"),
        ("trigger: {event: e, learn_every: 900ms}", ":5: trigger.learn_every must lie in 1000ms"),
        ("trigger: {event: e, every: 1h}", ":5: trigger.every"),
        ("trigger: {event: e}\nwaves: 2", ":6: waves belongs to a schedule"),
        ("trigger: {event: e}\nwave_deadline: 2h", ":6: wave_deadline belongs to a schedule"),
    ],
)
def test_what_a_trigger_cannot_be_is_told_with_its_line(line, told):
    with pytest.raises(CampaignError) as error:
        parse(SHORT + line + "\n")
    assert told in str(error.value)


# ---- what the policy chooses from, and begins with


def test_no_send_fatigue_and_a_warm_start_can_be_said():
    campaign = parse(
        SHORT + "no_send: yes\nfatigue: {size: 0.02, half_life: 3d}\n"
        "warm_start: {campaign: old, discount: 30 %}\n"
    )
    assert campaign.no_send
    assert (campaign.learn_at, campaign.clip_rewards) == ("close", None)
    prompt = parse(SHORT + "policy: linear-thompson\nlearn_at: decision\nclip_rewards: 99 %\n")
    assert (prompt.learn_at, prompt.clip_rewards) == ("decision", 0.99)
    assert parse(SHORT + "clip_rewards: 90 %\n").clip_rewards == 0.9  # of the default policy too
    assert (campaign.fatigue_size, campaign.fatigue_half_life_ms) == (0.02, 3 * DAY_MS)
    assert (campaign.warm_start_campaign, campaign.warm_start_discount) == ("old", 0.3)
    plain = parse(SHORT + "fatigue: {size: 0.1}\nwarm_start: {campaign: old}\nno_send: no\n")
    assert (plain.no_send, plain.fatigue_half_life_ms) == (False, 15 * DAY_MS)
    assert plain.warm_start_discount == 0.5


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("no_send: maybe", ":5: no_send must be yes or no, got 'maybe'"),
        ("learn_at: once", ":5: learn_at must be one of close, decision, got 'once'"),
        ("learn_at: decision\npolicy: squarecb-not", "squarecb-not"),
        ("learn_at: decision\npolicy: logistic-thompson", "learn_at is decision, and policy"),
        ("clip_rewards: 20 %", ":5: clip_rewards must lie in 0.5 to 1, got 0.2"),
        ("fatigue: {half_life: 3d}", ":5: fatigue lacks the key size"),
        ("fatigue: {size: -1}", ":5: fatigue.size must be a number, got -1"),
        ("fatigue: {size: 1, half_life: 0s}", ":5: fatigue.half_life must lie in 1ms"),
        ("fatigue: {size: 1}\npolicy: uniform", "policy 'uniform' has no scores"),
        ("warm_start: {discount: 1}", ":5: warm_start lacks the key campaign"),
        ("warm_start: {campaign: old, discount: 2}", ":5: warm_start.discount must lie in 0 to 1"),
        ("warm_start: {campaign: hello}", ":5: warm_start.campaign 'hello' is the campaign itself"),
        ("warm_start: {campaign: 'a b'}", ":5: warm_start.campaign must be 1 to 128 letters"),
    ],
)
def test_what_a_choice_cannot_be_is_told_with_its_line(line, told):
    with pytest.raises(CampaignError) as error:
        parse(SHORT + line + "\n")
    assert told in str(error.value)


def test_a_list_that_no_worker_could_keep_is_told_before_it_is_sent(tmp_path):
    (tmp_path / "many.csv").write_text("user\n" + "".join(f"{n:0200}\n" for n in range(38_000)))
    (tmp_path / "c.yaml").write_text(SHORT + "audience: {users_file: many.csv}\n")
    with pytest.raises(CampaignError, match="say whom it is for with a segment"):
        read_campaign(tmp_path / "c.yaml", 7)
