import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from streams.core.evaluation import LoggedDecisions
from streams.core.evaluation.logged import FloatArray

OPE = Path(__file__).parents[2] / "data" / "ope"

SYNTHETIC_POLICIES = ("ipw_learner_softmax", "ipw_learner_greedy", "uniform")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCase:
    """A log, an evaluation policy, a reward model, and what obp 0.5.7 made of them."""

    log: LoggedDecisions
    action_dist: FloatArray
    predicted_rewards: FloatArray
    recorded: dict
    case: dict

    def value(self, estimator: str) -> float:
        return float(self.recorded[estimator]["value"])


@pytest.fixture(scope="session")
def recorded_cases() -> dict[str, RecordedCase]:
    reference = json.loads((OPE / "reference.json").read_text())
    synthetic = np.load(OPE / "synthetic.npz")
    men = np.load(OPE / "men_random_to_bts.npz")
    log = LoggedDecisions(
        actions=synthetic["action"], rewards=synthetic["reward"], propensities=synthetic["pscore"]
    )
    cases = {
        name: RecordedCase(
            log=log,
            action_dist=synthetic[f"pi_{name}"],
            predicted_rewards=synthetic["q_hat"],
            recorded=reference["synthetic"]["policies"][name]["estimates"],
            case=reference["synthetic"]["policies"][name],
        )
        for name in SYNTHETIC_POLICIES
    }
    single = men["action_dist_single"]  # (n_actions, n_positions)
    men_case = reference["cases"]["men_random_to_bts"]
    cases["men_random_to_bts"] = RecordedCase(
        log=LoggedDecisions(
            actions=men["action"],
            rewards=men["reward"],
            propensities=men["pscore"],
            positions=men["position"],
        ),
        action_dist=np.broadcast_to(single, (len(men["action"]), *single.shape)),
        predicted_rewards=men["q_hat_at_position"],
        recorded=men_case["estimates"],
        case=men_case,
    )
    return cases
