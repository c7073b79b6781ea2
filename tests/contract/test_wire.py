"""Records keep their bytes, survive the way, and garbage is a value: nothing else."""

import io
import json
import math
import string
import struct
from dataclasses import replace
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import avro_schemas
from schemas.avro_schemas import fingerprint, full_schema, parsed_schema
from schemas.errors import BadRecordError, ContractError, GroundswellError
from schemas.records import Reward, UserEvent
from schemas.topics import TOPICS
from schemas.wire import Codec, Unreadable
from tests.contract.examples import EXAMPLES, GOLDEN

KINDS = {type(example).__name__: example for example in EXAMPLES}
RECORDS = [type(example) for example in EXAMPLES]
CODEC = Codec()

by_kind = pytest.mark.parametrize("kind", KINDS)


def wire(schema: dict[str, Any], fields: dict[str, Any]) -> bytes:
    """A record as another release, or another language, writes it."""
    parsed = fastavro.parse_schema(schema)
    assert isinstance(parsed, dict)
    out = io.BytesIO()
    out.write(struct.pack(">bI", 0, fingerprint(parsed)))
    fastavro.schemaless_writer(out, parsed, fields)
    return out.getvalue()


@pytest.fixture(scope="module")
def golden():
    return {kind: bytes.fromhex(text) for kind, text in json.loads(GOLDEN.read_text()).items()}


def test_there_are_golden_bytes_of_every_record_of_a_topic(golden):
    assert set(golden) == {topic.record.__name__ for topic in TOPICS if topic.record}


@by_kind
def test_a_record_is_written_as_it_always_was(golden, kind):
    assert CODEC.encode("any", KINDS[kind]).hex() == golden[kind].hex()


@by_kind
def test_a_record_as_it_always_was_is_read(golden, kind):
    assert CODEC.decode(golden[kind], type(KINDS[kind])) == KINDS[kind]


def test_ids_without_a_registry_are_apart_and_above_those_of_registries():
    ids = {fingerprint(parsed_schema(kind)) for kind in KINDS}
    assert len(ids) == len(KINDS)
    assert min(ids) >= 2**31
    assert max(ids) < 2**32


# What the constructors accept and Avro can hold: no lone surrogates, integers of 64 bits.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
names = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Cf", "Co", "Cn", "Zl", "Zp", "Zs"]),
    min_size=1,
    max_size=30,
)
times = st.integers(0, 253_402_300_799_999)
finite = st.floats(allow_nan=False, allow_infinity=False)
longs = st.integers(-(2**63), 2**63 - 1)
attributes = st.dictionaries(
    names,
    st.one_of(st.none(), st.booleans(), longs, finite, texts, st.lists(texts, max_size=4)),
    max_size=6,
)
user_events = st.builds(
    UserEvent,
    event_id=st.none() | names,
    user_id=names,
    type=names,
    occurred_at_ms=times,
    attributes=attributes,
    contacts=st.dictionaries(names, st.none() | texts, max_size=3),
)
rewards = st.builds(
    Reward,
    reward_id=st.none() | names,
    user_id=names,
    kind=names,
    occurred_at_ms=times,
    value=st.none() | finite,
    decision_id=st.none() | names,
    campaign_id=st.none() | names,
    channel=st.none() | names,
)


@given(user_events | rewards)
def test_every_event_and_reward_comes_back_as_it_went(record):
    back = CODEC.decode(CODEC.encode("any", record), type(record))
    assert back == record
    assert repr(back) == repr(record)  # True is not 1, and -0.0 is not 0.0


@pytest.mark.parametrize(
    ("record", "changed"),
    [
        ("UserEvent", {"attributes": {"n": math.nan}}),
        ("UserEvent", {"attributes": {"n": math.inf}}),
        ("UserEvent", {"attributes": {str(i): 1 for i in range(201)}}),
        ("UserEvent", {"attributes": {"long": "x" * 5000}}),
        ("UserEvent", {"occurred_at_ms": -1}),
        ("UserEvent", {"occurred_at_ms": 1_700_000_000_000_000}),
        ("UserEvent", {"user_id": ""}),
        ("UserEvent", {"user_id": "ü" * 129}),
        ("UserEvent", {"user_id": "a\x00b"}),
        ("Reward", {"value": math.nan}),
        ("Reward", {"occurred_at_ms": -(2**63)}),
        ("Reward", {"kind": "line\nbreak"}),
        ("Decision", {"propensity": 0.0}),
        ("Decision", {"propensity": math.nan}),
        ("LoggedDecision", {"propensity": 1.5}),
        ("Campaign", {"status": "on"}),
        ("Campaign", {"holdout": math.nan}),
        ("Campaign", {"templates": []}),
    ],
)
def test_what_must_not_be_believed_is_unreadable_and_says_why(record, changed):
    schema = full_schema(record)
    plain = fastavro.schemaless_reader(
        io.BytesIO(CODEC.encode("any", KINDS[record])[5:]), parsed_schema(record), None
    )
    raw = wire(schema, {**plain, **changed})
    read = CODEC.try_decode(raw, type(KINDS[record]))
    assert isinstance(read, Unreadable)
    assert len(read.reason) > 20
    with pytest.raises(GroundswellError):
        CODEC.decode(raw, type(KINDS[record]))


def test_a_record_that_does_not_fit_its_schema_is_a_bug_of_the_caller():
    event = UserEvent(user_id="u", type="t", occurred_at_ms=1, attributes={"n": object()})
    with pytest.raises((ContractError, TypeError)):
        CODEC.encode("any", event)


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (None, "no value where a UserEvent is due"),
        (b"", "not in Confluent wire format (0 bytes, starting nothing)"),
        (b"\x00\x00\x00\x00\x01", "not in Confluent wire format (5 bytes"),
        (b'{"user_id": "u"}', "not in Confluent wire format (16 bytes, starting 7b22757365)"),
        (b"\x00\x00\x00\x00\x01abc", "schema id 1 is unknown here"),
        (b"\x00\xff\xff\xff\xffabc", "schema id 4294967295 is unknown here"),
        (CODEC.encode("any", KINDS["Reward"]), "a groundswell.Reward where a UserEvent is due"),
        (CODEC.encode("any", KINDS["UserEvent"]) + b"\x00", "bytes are left over"),
        (CODEC.encode("any", KINDS["UserEvent"])[:-1], "not the Avro of a UserEvent"),
    ],
)
def test_what_is_no_such_record_is_told_apart(raw, told):
    with pytest.raises(BadRecordError) as refused:
        CODEC.decode(raw, UserEvent)
    assert told in str(refused.value)
    assert CODEC.try_decode(raw, UserEvent) == Unreadable(reason=str(refused.value))


def never_raises(raw: bytes | None, record: type) -> None:
    read = CODEC.try_decode(raw, record)
    assert isinstance(read, (record, Unreadable))


@given(st.binary(max_size=200), st.sampled_from(RECORDS))
def test_no_bytes_make_a_decoder_raise(raw, record):
    never_raises(raw, record)
    never_raises(struct.pack(">bI", 0, fingerprint(parsed_schema(record.__name__))) + raw, record)


@by_kind
def test_no_truncation_makes_a_decoder_raise(golden, kind):
    raw = golden[kind]
    for end in range(len(raw)):
        assert isinstance(CODEC.try_decode(raw[:end], type(KINDS[kind])), Unreadable)


@given(st.sampled_from(list(KINDS)), st.integers(5, 10_000), st.binary(min_size=1, max_size=12))
def test_no_damage_makes_a_decoder_raise(kind, at, damage):
    raw = CODEC.encode("any", KINDS[kind])
    at = 5 + at % (len(raw) - 5)
    never_raises(raw[:at] + damage + raw[at + len(damage) :], type(KINDS[kind]))


PRIMITIVE: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": longs,
    "double": st.floats(),
    "bytes": st.binary(max_size=20),
    "string": st.sampled_from(["", "a", "no-send", "active", "\x00", "x" * 300]) | texts,
}


def anything(schema: Any, named: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Any value that a schema can hold, believable or not."""
    if isinstance(schema, list):
        return st.one_of([anything(branch, named) for branch in schema])
    if isinstance(schema, str):
        return PRIMITIVE[schema] if schema in PRIMITIVE else anything(named[schema], named)
    match schema["type"]:
        case "array":
            return st.lists(anything(schema["items"], named), max_size=3)
        case "map":
            keys = st.text(string.ascii_letters, max_size=3)
            return st.dictionaries(keys, anything(schema["values"], named), max_size=3)
        case _:
            named[schema["name"]] = schema
            return st.fixed_dictionaries(
                {f["name"]: anything(f["type"], named) for f in schema["fields"]}
            )


@by_kind
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_sound_avro_with_unsound_content_makes_a_decoder_raise(kind, data):
    schema = full_schema(kind)
    fields = data.draw(anything(schema, {}))
    never_raises(wire(schema, fields), type(KINDS[kind]))


@pytest.mark.parametrize("filler", [b"\x00", b"\xff", b"\x80", b"\x01\x02"])
@pytest.mark.parametrize("record", RECORDS)
def test_two_megabytes_of_nonsense_are_unreadable(filler, record):
    prefix = struct.pack(">bI", 0, fingerprint(parsed_schema(record.__name__)))
    raw = prefix + filler * (2 * 1024 * 1024 // len(filler))
    assert isinstance(CODEC.try_decode(raw, record), Unreadable)


def test_a_count_that_no_memory_could_hold_is_unreadable():
    start = CODEC.encode("any", replace(KINDS["UserEvent"], attributes={}, contacts={}))
    huge = io.BytesIO()
    fastavro.schemaless_writer(huge, "long", 2**62)
    assert isinstance(CODEC.try_decode(start[:-2] + huge.getvalue(), UserEvent), Unreadable)


@pytest.fixture
def released(tmp_path, monkeypatch):
    """Releases that this process knows the schemas of, by their file."""
    monkeypatch.setattr(avro_schemas, "RELEASED_DIR", tmp_path)
    avro_schemas.released_schemas.cache_clear()

    def release(version: str, schema: dict[str, Any]) -> None:
        (tmp_path / f"{version}.json").write_text(json.dumps({schema["name"]: schema}))

    yield release
    avro_schemas.released_schemas.cache_clear()


def changed_reward() -> tuple[dict[str, Any], dict[str, Any]]:
    older, newer = full_schema("Reward"), full_schema("Reward")
    older["fields"] = [f for f in older["fields"] if f["name"] != "channel"]
    extra = {"name": "extra", "type": ["null", "string"], "default": None, "doc": "Another."}
    newer["fields"].insert(2, extra)
    for schema in (older, newer):
        schema["name"] = "Reward"
        schema.pop("__fastavro_parsed", None)
    return older, newer


def test_a_new_worker_reads_what_a_release_before_it_wrote_and_an_old_one_what_comes_after(
    released,
):
    older, newer = changed_reward()
    released("0.1.0", older)
    released("0.3.0", newer)
    codec = Codec()
    fields = {
        "reward_id": "r",
        "user_id": "u",
        "kind": "click",
        "occurred_at_ms": 5,
        "value": 1.5,
        "decision_id": "d",
        "campaign_id": None,
        "channel": "email",
        "extra": "unknown to the tree",
    }
    reward = Reward(
        reward_id="r",
        user_id="u",
        kind="click",
        occurred_at_ms=5,
        value=1.5,
        decision_id="d",
        channel="email",
    )
    assert codec.decode(wire(older, fields), Reward) == replace(reward, channel=None)
    assert codec.decode(wire(newer, fields), Reward) == reward


def test_without_a_registry_a_schema_of_no_known_release_is_unknown():
    older, _ = changed_reward()
    raw = wire(older, {"user_id": "u", "kind": "click", "occurred_at_ms": 5})
    with pytest.raises(BadRecordError, match=r"is unknown here: register it, or write with"):
        Codec().decode(raw, Reward)
