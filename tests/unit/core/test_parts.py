from dataclasses import replace

import numpy as np
import pytest

from schemas.campaign import ContextFeature
from schemas.errors import CampaignError, GroundswellError
from streams.core.encoding import ContextEncoder, action_set
from streams.core.learning import examples_in
from streams.core.parts import block_rows, half_lives_of, row_bytes, sums_bytes
from streams.core.policies import create, parts_by_action
from streams.core.sums import added, sums_in
from tests.unit.agents.shard import campaign, update, wave_start

SPRING = campaign()


def policy_of(of):
    columns = ContextEncoder(of.context).d_user
    return create(of.policy, of.policy_params, columns, action_set(of).d_action)


def parts(of) -> list[float] | None:
    return half_lives_of(of, policy_of(of))


def test_a_linear_policy_is_learned_in_parts_unless_told_otherwise():
    fading = {"draws": 16, "half_life_days": 2.0}
    assert parts(SPRING) == [0.0]
    assert parts(campaign(policy_params=fading)) == [2.0 * 86_400_000]
    assert parts(campaign(learning="parts")) == [0.0]
    assert parts(campaign(learning="examples")) is None


def test_what_does_not_add_up_is_learned_by_examples_and_parts_are_refused():
    given = {"policy": "logistic-thompson", "policy_params": {}}
    assert parts(campaign(**given)) is None
    with pytest.raises(CampaignError, match="logistic-thompson"):
        parts(campaign(learning="parts", **given))


def test_a_log_is_learned_by_examples():
    assert parts(campaign(status="logged")) is None


def test_sums_that_would_be_too_many_are_refused():
    template = SPRING.templates[0]
    many = [replace(template, id=f"t{rank}", features={}) for rank in range(200)]

    wide = {"templates": many, "context": [ContextFeature(attribute="a", buckets=64)]}
    assert parts(campaign(**wide)) is None
    with pytest.raises(CampaignError, match="13000"):
        parts(campaign(learning="parts", **wide))


def test_a_block_takes_about_the_room_of_the_sums_and_stays_within_a_record():
    for columns in (1, 40, 256):
        of = campaign(context=[ContextFeature(attribute="a", buckets=columns)])
        start = wave_start(of, half_lives_ms=[0.0])
        rows = block_rows(start)
        assert rows * row_bytes(start) <= 4 * 1024 * 1024
        assert rows == 1024 or rows * row_bytes(start) <= sums_bytes(start)


def told(**changes):
    """An update of sums, as a shard makes it."""
    of_rows = update([1.0, 0.5, 2.0], encoder_version=ContextEncoder(SPRING.context).version)
    examples = examples_in(of_rows, SPRING)
    (part,) = parts_by_action(examples, 0.0)
    sums = added(None, part)
    return replace(
        of_rows,
        actions=[],
        action_index=b"",
        contexts=b"",
        rewards=b"",
        previous=b"",
        decided_at_ms=b"",
        sums=[replace(sums, **changes)],
    )


def test_sums_come_as_they_were_sent():
    (part,) = sums_in(told(), SPRING)
    assert (part.action, part.half_life_ms, part.sums.n) == ("hello", 0.0, 3)
    assert part.features.tolist() == action_set(SPRING).features[0].tolist()
    assert part.sums.moment[0] == pytest.approx(3.5)
    assert part.sums.gram[0, 0] == part.sums.weight == 3.0
    again = added(told().sums[0], part)
    assert (again.n, again.weight, again.power) == (6, 6.0, 2 * part.sums.power)


@pytest.mark.parametrize(
    "bad",
    [
        {"action": "nothing"},
        {"gram": b""},
        {"gram": b"\0" * 8 * 14},
        {"moment": b"\0" * 8 * 6},
        {"moment": np.full(5, np.nan).tobytes()},
        {"gram": np.full(15, np.inf).tobytes()},
        {"gram": np.full(15, -1.0).tobytes()},
        {"power": float("nan")},
        {"weight": -1.0},
        {"n": -1},
    ],
)
def test_what_is_no_sum_of_this_campaign_is_refused(bad):
    with pytest.raises(GroundswellError):
        sums_in(told(**bad), SPRING)


def test_sums_of_another_encoder_are_refused():
    with pytest.raises(GroundswellError, match="encoder"):
        sums_in(replace(told(), encoder_version="columns-other"), SPRING)
