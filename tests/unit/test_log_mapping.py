"""What a mapping says, and where it is wrong: file, line, field and cure."""

from pathlib import Path

import pytest

from schemas.errors import MappingError
from streams.commands.log_mapping_file import parse_mapping, read_mapping
from streams.simulation.log_mapping import TimeColumn, campaign_of

MEN = Path(__file__).parents[1] / "data" / "obd_men"

PLAIN = """campaign: spring
time: at
action: mail
rewards: [{column: click}]
propensity: {column: p}
"""


def parse(text: str, folder: Path = Path()):
    return parse_mapping(text.encode(), "m.yaml", folder)


def test_five_keys_are_enough():
    mapping = parse(PLAIN)
    assert mapping.columns == ("at", "mail", "click", "p")
    assert mapping.user == ()
    assert mapping.split == 0.7
    campaign = campaign_of(mapping, ["hello", "offer"], 5)
    assert campaign.status == "logged"
    assert [t.features for t in campaign.templates] == [{}, {}]
    shared = campaign_of(parse(PLAIN + "policy: linear-thompson\n"), ["hello", "offer"], 5)
    assert [t.features for t in shared.templates] == [{"hello": 1.0}, {"offer": 1.0}]
    assert campaign.reward_weights == {"click": 1.0}


def test_every_key_is_taken(tmp_path):
    (tmp_path / "mails.csv").write_text("id,price,tone\nhello,0.5,warm\noffer,-1,cold\n")
    mapping = parse(
        """campaign: spring
format: parquet
time: {column: at, unit: ms}
user: [country, plan]
action: mail
rewards:
  - {column: clicked, kind: click, weight: 2, time: {column: clicked_at, unit: s}}
  - {column: spent, kind: purchase, amount: true}
propensity: {estimate: [plan]}
attributes: {plan: text, years: {column: age, type: number}}
context:
  - {attribute: plan, one_of: [free, plus]}
  - {attribute: years, center: 40, scale: 20}
templates: {file: mails.csv, id: id, numbers: [price], words: [tone]}
where: {channel: email, country: [de, no]}
event: mail-sent
policy: {name: linear-thompson, params: {draws: 64}}
attribution_window: 2h
split: 60 %
bad_rows: 5 %
""",
        tmp_path,
    )
    assert mapping.time == TimeColumn(column="at", unit="ms")
    assert mapping.user == ("country", "plan")
    assert mapping.propensity.kind == "estimated"
    assert mapping.where == {"channel": {"email"}, "country": {"de", "no"}}
    assert [(a.name, a.column, a.type) for a in mapping.attributes] == [
        ("plan", "plan", "text"),
        ("years", "age", "number"),
    ]
    assert set(mapping.columns) == {
        *("at", "country", "plan", "mail", "clicked", "clicked_at", "spent", "age", "channel"),
    }
    campaign = campaign_of(mapping, ["hello"], 5)
    assert campaign.templates[0].features == {"price": 0.5, "tone=warm": 1.0}
    assert (campaign.reward_weights, campaign.value_weights) == ({"click": 2.0}, {"purchase": 1.0})
    assert campaign.attribution_window_ms == 7_200_000
    assert campaign.policy_params == {"draws": 64}
    assert (mapping.split, mapping.bad_rows, mapping.event) == (0.6, 0.05, "mail-sent")


def test_the_worked_example_fits_the_policy():
    mapping = read_mapping(MEN / "mapping.yaml")
    assert mapping.templates is not None
    assert len(mapping.templates) == 34
    campaign_of(mapping, [], 0)


def test_probabilities_of_all_actions_and_versions_are_taken():
    mapping = parse(
        PLAIN.replace("{column: p}", "{columns: {hello: p_h, offer: p_o}, wave: version}")
    )
    assert mapping.propensity.kind == "given"
    assert mapping.propensity.columns == {"hello": "p_h", "offer": "p_o"}
    assert mapping.propensity.wave == "version"
    assert mapping.columns == ("at", "mail", "click", "p_h", "p_o", "version")
    # an action that was never drawn is one of the campaign's
    assert [t.id for t in campaign_of(mapping, ["hello"], 5).templates] == ["hello", "offer"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("time: at", "tine: at"), "m.yaml:2: tine is no key: did you mean time?"),
        (("time: at\n", ""), "m.yaml:1: the file lacks the key time"),
        (("time: at", "time: {column: at, unit: min}"), "m.yaml:2: time.unit must be one of iso"),
        (("campaign: spring", "campaign: a b"), "m.yaml:1: campaign must be 1 to 128 letters"),
        (("rewards: [{column: click}]", "rewards: []"), "m.yaml:4: rewards names no column"),
        (("{column: p}", "guess"), "m.yaml:5: propensity is 'guess': write {column: NAME}"),
        (("{column: p}", "{column: p, estimate: [x]}"), "m.yaml:5: propensity must have one of"),
        (("{column: p}", "{column: p, wave: w}"), "m.yaml:5: propensity must have one of"),
        (("{column: p}", "{columns: {}}"), "m.yaml:5: propensity.columns names no column"),
        (("{column: p}", "{column: p}\nsplit: 100 %"), "m.yaml:6: split must lie between 0 and 1"),
        (("{column: p}", "{column: p}\nuser: []"), "m.yaml:6: user names no column"),
        (
            ("{column: p}", "{column: p}\nattributes: {age: int}"),
            "m.yaml:6: attributes.age must be one of text, number, boolean, got 'int'",
        ),
        (
            ("{column: p}", "{column: p}\ncontext: [{attribute: age}]"),
            "'age' is none of the attributes (none): add it",
        ),
        (
            ("{column: p}", "{column: p}\ncontext: [{event: open}]"),
            "is not there in a log: map a column",
        ),
        (
            ("[{column: click}]", "[{column: a, kind: click}, {column: click}]"),
            "'click' stands twice",
        ),
        (
            ("{column: p}", "{column: p}\ntemplates: {file: none.csv, id: id}"),
            "m.yaml:6: templates.file none.csv cannot be read: No such file",
        ),
        (
            ("{column: p}", "{column: p}\nevent: groundswell.time"),
            "m.yaml:6: event groundswell.time is reserved",
        ),
    ],
)
def test_an_error_names_file_line_field_and_cure(change, message):
    with pytest.raises(MappingError) as error:
        parse(PLAIN.replace(*change))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("id,price\nhello,dear\n", "2: price must be a number, got 'dear'"),
        ("id,price\nhello,1\nhello,2\n", "'id' is not another on every line"),
        ("id,cost\nhello,1\n", "'price' is no column"),
        ("id,price\n", "has no action"),
        ("id,price\na b,1\n", "2: templates.id must be 1 to 128 letters"),
    ],
)
def test_a_file_of_templates_that_cannot_be_used_is_refused(tmp_path, lines, message):
    (tmp_path / "t.csv").write_text(lines)
    with pytest.raises(MappingError) as error:
        parse(PLAIN + "templates: {file: t.csv, id: id, numbers: [price]}\n", tmp_path)
    assert message in str(error.value)


def test_too_many_actions_and_actions_without_a_usable_name_are_refused():
    mapping = parse(PLAIN)
    with pytest.raises(
        MappingError, match=r"m.yaml:3: action names column 'mail' with 201 actions"
    ):
        campaign_of(mapping, [f"a{n}" for n in range(201)], 0)
    with pytest.raises(MappingError, match=r"m.yaml:3: action: an action must be 1 to 128"):
        campaign_of(mapping, ["spring sale!"], 0)


def test_a_policy_that_cannot_be_made_is_refused():
    with pytest.raises(MappingError, match=r"m.yaml: .*linear-thomson"):
        campaign_of(parse(PLAIN + "policy: linear-thomson\n"), ["a"], 0)
