import numpy as np
import pytest

from schemas.errors import EvaluationError
from schemas.learning import LearningExample
from streams.core.evaluation.held_out import HeldOut, value_held_out
from streams.core.policies import ActionSet, Fixed, Policy, Uniform

ACTIONS = ActionSet(ids=("hello", "offer"), features=np.zeros((2, 0)))


def example(number: int, **changes) -> LearningExample:
    given = {
        "decision_id": f"d{number}",
        "campaign_id": "log",
        "campaign_version": 1,
        "wave": 1,
        "user_id": f"u{number}",
        "reason": "logged",
        "action": "hello",
        "propensity_kind": "given",
        "propensity": 0.5,
        "actions": ["hello", "offer"],
        "probabilities": [],
        "context": np.zeros(0, "<f4").tobytes(),
        "reward": 0.0,
        "policy_version": -1,
        "encoder_version": "columns",
        "decided_at_ms": number,
        "closed_at_ms": number + 1,
        "learn": False,
    }
    return LearningExample(**{**given, **changes})


def valued(examples, policy: Policy | None = None):
    held_out = HeldOut.of(examples, ACTIONS)
    return value_held_out(policy or Uniform(0, 0), ACTIONS, held_out, np.random.default_rng(0))


class Given(Uniform):
    """Gives the probabilities of a table, row by row."""

    def __init__(self, d_user: int, d_action: int, table: np.ndarray) -> None:
        super().__init__(d_user, d_action)
        self._table = table
        self._row = 0

    def _dist(self, contexts, *_: object):
        self._row += len(contexts)
        return self._table[self._row - len(contexts) : self._row]


@pytest.mark.parametrize("name", ["ipw_learner_softmax", "uniform", "men_random_to_bts"])
def test_ips_and_snips_of_recorded_logs_equal_the_figures_of_obp(recorded_cases, name):
    case = recorded_cases[name]
    dist = case.action_dist
    if dist.ndim == 3:
        dist = dist[np.arange(len(case.log)), :, case.log.positions]
    actions = ActionSet(
        ids=tuple(f"a{n}" for n in range(dist.shape[1])), features=np.zeros((dist.shape[1], 0))
    )
    examples = [
        example(
            number,
            action=f"a{case.log.actions[number]}",
            reward=float(case.log.rewards[number]),
            propensity=float(case.log.propensities[number]),
        )
        for number in range(len(case.log))
    ]
    held_out = HeldOut.of(reversed(examples), actions)
    got = value_held_out(Given(0, 0, dist), actions, held_out, np.random.default_rng(0))
    assert got.ips is not None
    assert got.snips is not None
    assert got.ips.value == pytest.approx(case.value("ipw"), abs=1e-9, rel=0)
    assert got.snips.value == pytest.approx(case.value("snipw"), abs=1e-9, rel=0)
    assert got.logging.value == case.log.value


def test_what_was_learned_is_left_out_and_a_correction_counts_once():
    got = valued(
        [
            *(example(n, reward=float(n % 2)) for n in range(10)),
            example(3, reward=5.0, previous_reward=1.0),
            *(example(100 + n, learn=True, reward=9.0) for n in range(5)),
        ]
    )
    assert (got.n, got.rewarded) == (10, 5)
    assert got.logging.value == pytest.approx(0.9)
    assert got.ips is not None
    assert got.ips.value == pytest.approx(0.9)  # uniform over two, drawn with a half


def test_a_small_log_is_said_to_be_too_small():
    got = valued([example(n, reward=float(n == 0)) for n in range(50)])
    assert got.diagnosis is not None
    assert got.diagnosis.verdict == "too-small"


def test_a_log_of_unknown_propensities_values_nothing_and_says_why():
    for unknown in ({"propensity": None}, {"propensity_kind": "unknown"}):
        examples = [example(0, **unknown), *(example(n) for n in range(1, 5))]
        got = valued(examples)
        assert got.propensity_kind == "unknown"
        assert got.ips is got.snips is got.diagnosis is None
        assert got.refusal is not None
        assert "the propensities of the log are unknown" in got.refusal
        assert got.logging.n == 5


def test_one_estimated_propensity_makes_them_estimated():
    got = valued([example(0, propensity_kind="estimated"), *(example(n) for n in range(1, 5))])
    assert got.propensity_kind == "estimated"
    assert got.ips is not None


def test_a_policy_that_takes_none_of_the_logged_actions_cannot_be_valued():
    got = valued([example(n) for n in range(5)], Fixed(0, 0, action="offer"))
    assert got.refusal is not None
    assert "none of the 5 actions that were logged" in got.refusal


def test_logs_that_cannot_be_used_are_refused():
    with pytest.raises(EvaluationError, match="no decision of the log is held out"):
        HeldOut.of([example(1, learn=True)], ACTIONS)
    with pytest.raises(EvaluationError, match="'news' is none of the policy's 2"):
        HeldOut.of([example(1, action="news")], ACTIONS)


def by_version(number: int, **changes) -> LearningExample:
    version = number % 2
    odds = ([0.5, 0.5], [0.9, 0.1])[version]
    given = {"propensity": odds[0], "probabilities": odds, "policy_version": version}
    return example(number, reward=float(number % 3 == 0), **{**given, **changes})


def test_a_log_that_tells_all_probabilities_and_versions_is_valued_for_a_policy_that_learned():
    got = valued([by_version(n) for n in range(600)])
    assert got.adaptive is not None
    assert got.diagnosis is not None
    assert got.diagnosis.estimate == got.adaptive
    assert got.snips is not None
    assert got.snips.value != got.adaptive.value


@pytest.mark.parametrize("lacks", [{"policy_version": -1}, {"probabilities": []}])
def test_one_decision_of_an_unknown_version_leaves_the_plain_estimates(lacks):
    got = valued([by_version(0, **lacks), *(by_version(n) for n in range(1, 600))])
    assert got.adaptive is None
    assert got.diagnosis is not None
    assert got.diagnosis.estimate == got.snips


def test_actions_that_were_not_eligible_take_no_part():
    examples = [
        by_version(n, actions=["hello"], probabilities=[1.0], propensity=1.0) for n in range(600)
    ]
    got = valued(examples)
    assert got.adaptive is not None
    assert got.adaptive.max_weight == 1.0  # uniform over what there was: hello alone
    with pytest.raises(EvaluationError, match="'news' is none of the policy's 2"):
        HeldOut.of([by_version(1, actions=["hello", "news"])], ACTIONS)
