"""Decisions are written by a writer of their own: its bytes are fastavro's."""

import io

import fastavro
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields, force_setattr, replace

from schemas.avro_schemas import parsed_schema
from schemas.decision_bytes import MOST, DecisionBytes
from schemas.errors import ContractError
from schemas.records import Decision
from schemas.wire import Codec

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
LONG = st.integers(-(2**63), 2**63 - 1)
DECISIONS = st.builds(
    Decision,
    decision_id=TEXT,
    campaign_id=TEXT,
    campaign_version=LONG,
    wave=st.integers(-(2**31), 2**31 - 1),
    user_id=TEXT,
    action=TEXT,
    reason=TEXT,
    policy_version=LONG,
    encoder_version=TEXT,
    decided_at_ms=LONG,
    expires_at_ms=LONG,
    channel=st.none() | TEXT,
    contact=st.none() | TEXT,
    propensity=st.none() | st.floats(1e-300, 1.0),
    variables=st.dictionaries(TEXT, TEXT, max_size=70),
)


def by_fastavro(decision: Decision) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, parsed_schema("Decision"), msgspec.to_builtins(decision))
    return out.getvalue()


@given(st.lists(DECISIONS, min_size=1, max_size=4))
def test_the_bytes_are_those_of_fastavro(decisions):
    writer = DecisionBytes()
    for decision in [*decisions, *decisions]:
        assert writer.encode(decision) == by_fastavro(decision)


@given(DECISIONS)
def test_what_the_codec_writes_it_reads(decision):
    codec = Codec()
    assert codec.decode(codec.encode("send-decisions", decision), Decision) == decision


def test_a_field_of_the_schema_that_the_writer_does_not_know_would_be_noticed():
    assert [field["name"] for field in parsed_schema("Decision")["fields"]] == [
        "decision_id",
        "campaign_id",
        "campaign_version",
        "wave",
        "user_id",
        "action",
        "channel",
        "contact",
        "reason",
        "propensity",
        "policy_version",
        "encoder_version",
        "decided_at_ms",
        "expires_at_ms",
        "variables",
    ]


ONE = Decision(
    decision_id="d",
    campaign_id="c",
    campaign_version=1,
    wave=0,
    user_id="u",
    action="a",
    reason="policy",
    policy_version=0,
    encoder_version="e",
    decided_at_ms=1,
    expires_at_ms=2,
    variables={"subject": "s"},
)


def test_what_is_kept_of_many_campaigns_is_bounded_and_stays_right():
    writer = DecisionBytes()
    for number in range(3 * MOST):
        decision = replace(ONE, campaign_id=f"c{number}", variables={"n": str(number)})
        assert writer.encode(decision) == by_fastavro(decision)
    assert len(writer._parts) <= MOST
    assert len(writer._variables) <= MOST


@pytest.mark.parametrize("name", [each.name for each in fields(Decision)])
def test_a_value_of_another_type_is_an_error_that_says_so(name):
    wrong = "x" if isinstance(getattr(ONE, name), int) else 5
    wrong = 2**63 if name == "wave" else wrong
    decision = replace(ONE, **({} if name == "propensity" else {name: wrong}))
    if name == "propensity":
        force_setattr(decision, name, "x")  # it checks itself
    with pytest.raises(ContractError, match="does not fit its schema"):
        Codec().encode("send-decisions", decision)
