"""A campaign of several waves in memory: the loop of the workers without Kafka, for tests."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import SettingsError
from streams.core.policies import registry
from streams.core.policies.base import ActionSet, Examples, draw
from streams.simulation.people import encode
from streams.simulation.templates import BASELINE_TEMPLATE, action_features
from streams.simulation.truth import REWARD_WEIGHTS
from streams.simulation.world import Company

__all__ = ["WaveResult", "run_waves"]

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveResult:
    """What a wave's sends earn in truth, each an expected reward per send of the same people.

    Attributes
    ----------
    sends
        People that the policy decided for; holdout, baseline and the unreachable left out.
    policy
        Under the probabilities that the policy drew from, its floor included.
    best_single
        The best that a choice without looking at the person earns.
    uniform
        A random template that reaches the person.
    oracle
        The best template of each person.
    realised
        What the policy's sends happened to earn.
    """

    wave: int
    sends: int
    policy: float
    best_single: float
    uniform: float
    oracle: float
    realised: float


def run_waves(
    company: Company,
    policy_name: str,
    params: Mapping[str, Any],
    seed: int,
    *,
    waves: int = 6,
    holdout: float = 0.05,
    baseline_share: float = 0.10,
    weights: Mapping[str, float] = REWARD_WEIGHTS,
    contexts: NDArray[np.float64] | None = None,
    log: Examples | None = None,
) -> list[WaveResult]:
    """Run a campaign in which each wave is decided by what the waves before it taught.

    Each person is in exactly one wave. A wave's holdout and baseline share are not the policy's
    to decide for; the others get what it draws. It learns all of that wave's sends, the baseline's
    among them as in the workers, with their complete feedback, before the next wave.

    Parameters
    ----------
    policy_name, params
        As in a campaign's definition.
    seed
        Of the waves, groups and draws; what people answer depends on the company's seed too.
    contexts
        What the policy sees of each person, (n_people, d_user); without it what a campaign names.
    log
        Decisions of before, under the same contexts, that it has learned from.

    Raises
    ------
    SettingsError
        If there is no wave, or nobody is left for the policy.
    """
    if waves < 1:
        raise SettingsError(f"a campaign has at least 1 wave, got {waves}")
    if not 0.0 <= holdout + baseline_share < 1.0:
        raise SettingsError(
            f"holdout and baseline take {holdout + baseline_share} of the people: leave some "
            "to the policy"
        )
    rng = np.random.default_rng((company.seed, seed))  # another stream than the people's
    if contexts is None:
        contexts = encode(company.people)  # (n, d_user)
    actions = ActionSet(
        ids=tuple(template.id for template in company.templates), features=action_features()
    )
    policy = registry.create(policy_name, params, contexts.shape[1], actions.d_action)
    if log is not None:
        policy.learn_many(log)
    baseline = actions.ids.index(BASELINE_TEMPLATE)
    expected = company.expected_reward(weights)  # (n, n_actions)
    best_single, oracle, uniform = (
        company.best_single(weights),
        company.oracle(weights),
        company.uniform(),
    )
    results = []
    for wave, members in enumerate(np.array_split(rng.permutation(len(company.people)), waves), 1):
        group = rng.random(len(members))
        treated = members[group >= holdout + baseline_share]
        users = treated[company.eligible[treated].any(axis=1)]
        decides = policy.for_last_wave() if wave == waves else policy
        dist = decides.action_dist(contexts[users], actions, company.eligible[users], rng)
        chosen = draw(dist, rng)
        others = members[(group >= holdout) & (group < holdout + baseline_share)]
        others = others[company.eligible[others, baseline]]
        sent = np.concatenate([users, others])
        sent_actions = np.concatenate([chosen, np.full(len(others), baseline)])
        rewards = company.respond(
            [f"{seed}:{wave}:{company.people.ids[user]}" for user in sent],
            sent,
            sent_actions,
            wave * DAY_MS,
        ).rewards(weights)
        order = np.argsort(sent)  # baseline's among the others, as they come
        policy.learn_many(
            Examples(
                contexts=contexts[sent[order]],
                actions=tuple(actions.ids[action] for action in sent_actions[order]),
                action_features=actions.features[sent_actions[order]],
                rewards=rewards[order],
                previous=np.full(len(sent), np.nan),
                at_ms=np.full(len(sent), wave * DAY_MS, dtype=np.int64),
            )
        )
        results.append(
            WaveResult(
                wave=wave,
                sends=len(users),
                policy=float((dist * expected[users]).sum(axis=1).mean()),
                best_single=float(expected[users, best_single[users]].mean()),
                uniform=float((uniform[users] * expected[users]).sum(axis=1).mean()),
                oracle=float(expected[users, oracle[users]].mean()),
                realised=float(rewards[: len(users)].mean()),
            )
        )
    return results
