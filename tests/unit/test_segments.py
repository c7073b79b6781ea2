import math
import time
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import ExpressionError
from streams.core.segments import MAX_DEPTH, MAX_LENGTH, AttributeValue, compile_segment

DAY_MS = 86_400_000
NOW_MS = 20_000 * DAY_MS


@dataclass
class FakeProfile:
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    events: dict[str, list[int]] = field(default_factory=dict)
    channels: set[str] = field(default_factory=set)
    unsubscriptions: set[str] = field(default_factory=set)

    def event_count(self, event_type: str) -> int:
        return len(self.events.get(event_type, ()))

    def last_event_ms(self, event_type: str) -> int | None:
        return max(self.events.get(event_type, ()), default=None)

    def reachable(self, channel: str) -> bool:
        return channel in self.channels

    def unsubscribed(self, channel: str) -> bool:
        return channel in self.unsubscriptions


ANNA = FakeProfile(
    attributes={
        "plan": "free",
        "age": 34,
        "score": 0.25,
        "premium": True,
        "trial": False,
        "country": "DE",
        "interests": ("sport", "books"),
        "favourite": "sport",
        "shop visits": 7,
        "nickname": None,
        "balance": -3,
    },
    events={
        "app_open": [NOW_MS - 3 * DAY_MS, NOW_MS - 2 * DAY_MS, NOW_MS - DAY_MS],
        "purchase": [NOW_MS - 10 * DAY_MS],
        "ahead": [NOW_MS + 60_000],
    },
    channels={"push"},
    unsubscriptions={"sms"},
)


def matches(text: str, profile: FakeProfile = ANNA) -> bool:
    answer = compile_segment(text).matches(profile, NOW_MS)
    assert type(answer) is bool
    return answer


def test_the_whole_language_in_one_segment():
    text = """
        plan in ("free", "plus") and age >= 30 and not unsubscribed("email")
        and events("app_open") >= 3 and days_since("purchase") < 30
        and reachable("push") and country == "DE"
    """
    assert matches(text)
    assert not matches(text.replace(">= 30", ">= 35"))
    assert not matches(text.replace("email", "sms"))
    assert not matches(text.replace(">= 3 ", ">= 4 "))
    assert not matches(text.replace("< 30", "< 10"))
    assert not matches(text.replace('"push"', '"email"'))
    assert not matches(text.replace('"DE"', '"AT"'))
    assert not matches(text.replace('"free"', '"pro"'))
    assert not matches(text, FakeProfile())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("age == 34", True),
        ("age == 34.0", True),
        ("age != 34", False),
        ("age > 34", False),
        ("age >= 34", True),
        ("age < 35", True),
        ("34 <= age", True),
        ("30 <= age < 40", True),
        ("30 <= age < 34", False),
        ("35 <= age < 40", False),
        ("balance == -3 and balance < +1", True),
        ("score > 0.2", True),
        ('country < "EE"', True),
        ('country not in ("DE", "AT")', False),
        ('country not in ("FR", "AT")', True),
        ('country in ["DE"]', True),
        ("country in ()", False),
        ("country not in ()", True),
        ("age in (33, 34)", True),
        ('"sport" in interests', True),
        ('"chess" in interests', False),
        ('"chess" not in interests', True),
        ('"sport" not in interests', False),
        ("favourite in interests", True),
        ('"shop" in attribute("shop visits")', False),
        ('attribute("shop visits") == 7', True),
        ('is_set("shop visits")', True),
        ('is_set("nickname") or is_set("nothing")', False),
        ("premium", True),
        ("trial", False),
        ("not trial", True),
        ("premium == True", True),
        ("missing", False),
        ('events("app_open")', True),
        ('events("nothing")', False),
        ('events("nothing") == 0', True),
        ('days_since("purchase") == 10', True),
        ('days_since("ahead") == 0', True),
        ("True", True),
        ("False", False),
        ("not not premium", True),
        # `and` binds more tightly than `or`
        ("premium or trial and trial", True),
        ("(premium or trial) and trial", False),
        ("trial or trial or premium", True),
        ("premium and premium and trial", False),
        ("premium and premium and premium", True),
        ("trial or trial", False),
    ],
)
def test_an_expression_means_what_it_says(text, expected):
    assert matches(text) is expected


@pytest.mark.parametrize("op", ["==", "!=", "<", "<=", ">", ">="])
@pytest.mark.parametrize("value", ['"text"', "5", "True"])
def test_a_comparison_with_a_missing_value_is_false_whichever_way(op, value):
    for missing in ("nothing", "nickname", 'attribute("no thing")', 'days_since("nothing")'):
        assert not matches(f"{missing} {op} {value}")
        assert not matches(f"{value} {op} {missing}")
        assert matches(f"not ({missing} {op} {value})")


def test_missing_equals_missing_only_where_none_is_written():
    assert not matches("nothing == nickname")
    assert matches("nothing == None")
    assert matches("None == nothing")
    assert matches('days_since("nothing") == None')
    assert matches("age != None")
    assert not matches("age == None")
    assert not matches("nothing != None")


def test_a_missing_value_is_neither_in_a_list_nor_outside_of_it():
    assert not matches('nothing in ("a", "b")')
    assert not matches('nothing not in ("a", "b")')
    assert not matches('"a" in nothing')
    assert not matches('"a" not in nothing')
    assert matches('not ("a" in nothing)')


@pytest.mark.parametrize(
    "text",
    [
        'age == "34"',
        'age != "34"',
        'age < "a"',
        "country < 5",
        "country != 5",
        "premium == 1",
        "premium != 0",
        "premium < 2",
        "premium >= False",
        "interests < interests",
        'interests == "sport"',
        'age in ("34", "35")',
        'age not in ("34", "35")',
        "premium in (1, 2)",
        'interests in ("sport", "books")',
        '"D" in country',
        '"D" not in country',
        "5 in interests",
        "5 not in interests",
    ],
)
def test_a_comparison_of_two_types_is_false(text):
    assert not matches(text)


def test_a_list_of_several_types_takes_each_for_what_it_is():
    assert matches('age in ("x", 34)')
    assert matches('age not in ("34", 35)')
    assert not matches("premium not in (1, True)")


@pytest.mark.parametrize(
    ("text", "column", "found"),
    [
        ("age.real == 34", 1, "a dot"),
        ("premium and age.__class__", 13, "a dot"),
        ("(lambda: True)()", 1, "a call of a lambda"),
        ("premium or (lambda: True)", 13, "a lambda"),
        ("[x for x in interests]", 1, "a comprehension"),
        ("any(x for x in interests)", 1, "the unknown function 'any'"),
        ("age in {x for x in interests}", 8, "a comprehension"),
        ("interests[0] == 'sport'", 1, "an index"),
        ("age + 1 > 3", 1, "arithmetic"),
        ("-age > 3", 1, "arithmetic"),
        ("'a' * 9 ** 9 == plan", 1, "arithmetic"),
        ("1 if premium else 0", 1, "an if"),
        ('f"{plan}" == "a"', 1, "a text with insertions"),
        ("(x := 3) == 3", 2, "an assignment"),
        ("age in {1, 2}", 8, "a set in braces"),
        ('plan in ("free")', 10, "the literal 'free' after 'in'"),
        ("plan in ((1, 2), 3)", 10, "a list in a list"),
        ("plan in ('a', None)", 15, "the literal None in a list"),
        ("plan in ('a', age)", 15, "the name 'age' in a list"),
        ('plan == "free" or "plus"', 19, "the literal 'plus' where a condition is expected"),
        ("5", 1, "a number where a condition is expected"),
        ("0x" + "f" * 3900, 1, "a number where a condition is expected"),
        ("premium and None", 13, "the literal None where a condition is expected"),
        ("age == b'x'", 8, "the literal b'x'"),
        ("age == 1j", 8, "a number"),
        ("age == ...", 8, "the literal Ellipsis"),
        ("(age > 3) == True", 2, "a condition where a value is expected"),
        ("age is None", 8, "a comparison with 'is'"),
        ("age < None", 7, "None in a comparison of size"),
        ("premium == true", 12, "'true'"),
        ("events > 3", 1, "the function 'events' without a name"),
        ("events() > 3", 1, "events with other than one quoted name"),
        ("events(app_open) > 3", 1, "events with other than one quoted name"),
        ("events('a', 'b') > 3", 1, "events with other than one quoted name"),
        ("events(event_type='a') > 3", 1, "events with other than one quoted name"),
        ("events('') > 3", 1, "events with other than one quoted name"),
        ("events(*interests) > 3", 1, "events with other than one quoted name"),
        ("open('/etc/passwd') == 'x'", 1, "the unknown function 'open'"),
        ("__import__('os').system('true')", 1, "a call of a dot"),
        ("premium or (yield)", 13, "'Yield'"),
        # columns are characters of the whole text, not bytes and not of a line
        ('plan == "für" and a.b', 19, "a dot"),
        ("  premium\n  and a.b", 17, "a dot"),
    ],
)
def test_what_is_not_in_the_language_is_refused_with_its_column(text, column, found):
    with pytest.raises(ExpressionError) as raised:
        compile_segment(text)
    message = str(raised.value)
    assert message.startswith(f"column {column}: found {found}"), message
    assert "; allowed: " in message
    assert len(message) < 400


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("age >", 6),
        ("age > > 3", 7),
        ("premium and (trial", 13),
        ("premium; trial", 8),
        ("age = 34", 5),
        ("premium trial", 9),
        ('country == "DE', 12),
        ("a) or (b", 2),
        ("import os", 1),
        (r'plan == "\d"', 9),
        ("premium # and not trial", 9),
        ("premium # only\n and trial", 9),
    ],
)
def test_what_is_no_expression_is_refused_with_its_column(text, column):
    with pytest.raises(ExpressionError, match=rf"^column {column}: "):
        compile_segment(text)


def test_a_hash_in_quotes_is_no_comment():
    assert matches('plan != "#1"')


@pytest.mark.parametrize(
    ("text", "nearest"),
    [("event('a') > 1", "events"), ("is_sett('a')", "is_set"), ("reachble('push')", "reachable")],
)
def test_an_unknown_function_is_answered_with_the_nearest(text, nearest):
    with pytest.raises(ExpressionError, match=rf"allowed: {nearest} \(the nearest\); all: "):
        compile_segment(text)


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_an_empty_segment_is_refused(text):
    with pytest.raises(ExpressionError, match="write True to mean everyone"):
        compile_segment(text)


def test_length_is_bounded():
    listed = "plan in (" + ",".join(['"x"'] * 900) + ")"
    assert len(listed) < MAX_LENGTH
    assert not matches(listed)
    with pytest.raises(ExpressionError, match=rf"may have {MAX_LENGTH} characters, this one has"):
        compile_segment("premium and " * 400 + "premium")


def test_depth_is_bounded():
    assert matches("not " * MAX_DEPTH + "premium")
    with pytest.raises(ExpressionError, match=f"more than {MAX_DEPTH} conditions within"):
        compile_segment("not " * (MAX_DEPTH + 1) + "premium")


@pytest.mark.parametrize(
    "text",
    [
        "not " * 990 + "premium",
        "(" * 1_900 + "premium" + ")" * 1_900,
        "-" * 3_900 + "1 == age",
        "premium" + ".a" * 1_900,
        "[" * 150 + "]" * 150 + " == age",
        "age\0 == 3",
        "plan == '\ud800'",
    ],
)
def test_what_python_itself_cannot_parse_is_an_expression_error(text):
    with pytest.raises(ExpressionError):
        compile_segment(text)


NAMES = st.sampled_from(["plan", "age", "interests", "premium", "nothing"])
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.text(max_size=3), max_size=3).map(tuple),
)
PROFILES = st.builds(
    FakeProfile,
    attributes=st.dictionaries(NAMES, VALUES),
    events=st.dictionaries(
        st.sampled_from(["open", "buy"]), st.lists(st.integers(0, 2**53), max_size=3)
    ),
    channels=st.sets(st.sampled_from(["push", "email"])),
    unsubscriptions=st.sets(st.sampled_from(["push", "email"])),
)
LITERALS = st.one_of(
    st.booleans(), st.integers(-(10**20), 10**20), st.floats(allow_nan=False), st.text(max_size=5)
).filter(lambda value: repr(value) not in ("inf", "-inf"))
OPERANDS = st.one_of(
    NAMES,
    LITERALS.map(repr),
    NAMES.map('attribute("{}")'.format),
    st.sampled_from(['events("open")', 'days_since("buy")', 'reachable("push")']),
)
LISTS = st.lists(LITERALS, max_size=4).map(lambda values: repr(list(values)))
ATOMS = st.one_of(
    st.tuples(OPERANDS, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), OPERANDS).map(
        " ".join
    ),
    st.tuples(OPERANDS, st.sampled_from(["<", "<="]), OPERANDS, st.just("<"), OPERANDS).map(
        " ".join
    ),
    st.tuples(OPERANDS, st.sampled_from(["in", "not in"]), st.one_of(LISTS, NAMES)).map(" ".join),
    NAMES,
    NAMES.map("{} == None".format),
    st.sampled_from(['is_set("age")', 'unsubscribed("email")', 'events("buy")']),
)
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        inner.map("not ({})".format),
        st.tuples(inner, st.sampled_from([") and (", ") or ("]), inner).map(
            lambda parts: f"({''.join(parts)})"
        ),
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(text=EXPRESSIONS, profile=PROFILES, now_ms=st.integers(0, 2**53))
def test_a_segment_answers_yes_or_no_for_any_profile(text, profile, now_ms):
    answer = compile_segment(text).matches(profile, now_ms)
    assert type(answer) is bool
    assert compile_segment(f"not ({text})").matches(profile, now_ms) is not answer


@settings(max_examples=300, deadline=None)
@given(text=st.text(alphabet="abnot1\"'()[]{}.,:=<>!#\\ \n-+*/%@é"))
def test_any_text_is_a_segment_or_an_expression_error(text):
    try:
        segment = compile_segment(text)
    except ExpressionError:
        return
    assert type(segment.matches(ANNA, NOW_MS)) is bool


@settings(max_examples=200, deadline=None)
@given(left=VALUES, right=VALUES)
def test_order_is_that_of_numbers_and_of_texts_and_of_nothing_else(left, right):
    profile = FakeProfile(attributes={"a": left, "b": right})
    numbers = all(type(v) in (int, float) for v in (left, right))
    texts = all(type(v) is str for v in (left, right))
    expected = left < right if numbers or texts else False
    assert matches("a < b", profile) is expected


def test_not_a_number_is_equal_to_nothing():
    profile = FakeProfile(attributes={"score": math.nan})
    assert not matches("score == score", profile)
    assert not matches("score >= 0", profile)


def test_a_simple_segment_is_asked_200_000_times_a_second():
    segment = compile_segment('age >= 30 and country == "DE"')
    n = 20_000
    best_s = math.inf
    for _ in range(5):  # the best of five: other work shares the machine
        start_s = time.perf_counter()
        for _ in range(n):
            segment.matches(ANNA, NOW_MS)
        best_s = min(best_s, time.perf_counter() - start_s)
    assert n / best_s >= 200_000
