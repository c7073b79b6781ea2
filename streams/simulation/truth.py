"""What people really do: the click and purchase model that a policy has to find out.

A person's taste for each template feature is mostly a function of attributes; a click is logistic
in the products of tastes and features::

    logit P(click | i, a) = b_a + m_i + s * sum_f taste_if * feature_af

The seed perturbs the attributes' weights and deals the templates' popularity. The intercepts b_a
and the strength s are then solved, so that how much there is to win is the same in every world:
the best single template earns little more than a random one, the best template per person about
twice as much.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit

from schemas.errors import CampaignError
from streams.simulation.people import People
from streams.simulation.responses import DISMISS_RATE, UNSUBSCRIBE_RATE
from streams.simulation.templates import FEATURES, TEMPLATES, action_features, type_of

__all__ = ["REWARD_WEIGHTS", "Truth", "best_single", "draw_truth"]

REWARD_WEIGHTS: Mapping[str, float] = {"click": 1.0, "purchase": 2.0}
MEAN_REWARD = 0.055  # a send of a middling template, under REWARD_WEIGHTS
POPULARITY = np.linspace(-0.13, 0.13, len(TEMPLATES))  # dealt to templates: mean reward, relative
ORACLE_RATIO = 2.0  # best template per person / uniform
HIDDEN_SHARE = 0.2  # sd of the taste that no attribute explains / of the one that they do

# Purchases given a click at a person of average taste, by type.
PURCHASE_RATE: Mapping[str, float] = {
    "upsell": 0.18,
    "discount": 0.25,
    "reminder": 0.12,
    "news": 0.06,
}
PURCHASE_TASTE = 0.35  # how much of the click's taste counts again at the till

# What makes a taste, in standard deviations of the trait: the traits are defined in `_traits`.
TASTES: Mapping[str, Mapping[str, float]] = {
    "upsell": {"plus": 0.9, "pro": -0.9, "active": 0.6, "deals": -0.3},
    "discount": {"deals": 1.0, "pro": -0.5, "old": -0.3},
    "reminder": {"active": -1.1, "tenure": -0.2, "plus": -0.2},
    "news": {"old": 0.6, "tenure": 0.8, "pro": 0.7, "deals": -0.4},
    "price": {"pro": 0.4, "deals": -0.5, "US": 0.2},
    "tone": {"old": -0.9, "ios": 0.1},
    "push": {"active": 0.5, "old": -0.3, "ios": 0.2},
    "sms": {"deals": 0.4, "ios": -0.2, "tenure": -0.2},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """The true probabilities of n people and k templates.

    Attributes
    ----------
    click
        P(click | person, template), (n, k).
    purchase
        P(purchase | click, person, template), (n, k).
    """

    click: NDArray[np.float64]
    purchase: NDArray[np.float64]

    def expected_reward(self, weights: Mapping[str, float]) -> NDArray[np.float64]:
        """Give E[r | person, template], (n, k), when all feedback is credited to its decision.

        Parameters
        ----------
        weights
            Reward of a ``click``, ``purchase``, ``dismiss`` and ``unsubscribe``; what is not
            named earns nothing.
        """
        if unknown := weights.keys() - {"click", "purchase", "dismiss", "unsubscribe"}:
            raise CampaignError(
                f"people do not do {sorted(unknown)}: weigh click, purchase, dismiss, unsubscribe"
            )
        bought = self.click * self.purchase
        annoyed = DISMISS_RATE * weights.get("dismiss", 0.0) + UNSUBSCRIBE_RATE * weights.get(
            "unsubscribe", 0.0
        )
        return (
            weights.get("click", 0.0) * self.click
            + weights.get("purchase", 0.0) * bought
            + annoyed * (1.0 - self.click)
        )


def best_single(rewards: NDArray[np.float64], eligible: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Choose without looking at the person, as well as that can be done.

    The template with the highest mean reward where it is eligible; the next best for the people
    that it does not reach. A plain single template that leaves them out earns less.

    Returns
    -------
    A template index for each person, (n,); meaningless for people that nothing reaches.
    """
    means = np.where(eligible, rewards, 0.0).sum(axis=0) / eligible.sum(axis=0)  # (k,)
    choices: NDArray[np.intp] = np.where(eligible, means, -np.inf).argmax(axis=1)
    return choices


def draw_truth(
    rng: np.random.Generator, people: People, eligible: NDArray[np.bool_], *, curved: bool = False
) -> Truth:
    """Draw a world and solve it for the rewards that it has to give.

    Parameters
    ----------
    eligible
        Whether each template reaches each person, (n, k).
    curved
        Whether tastes follow from bands of the attributes and from pairs of them, so that no
        linear function of the attributes comes near them.
    """
    traits = _curved_traits(people) if curved else _traits(people)
    match = _tastes(rng, traits) @ action_features().T  # (n, k)
    match -= np.array([match[reached, a].mean() for a, reached in enumerate(eligible.T)])
    main = 0.15 * rng.normal(size=(len(people), 1))  # some people click more, whatever it is
    bought = logit([PURCHASE_RATE[type_of(template)] for template in TEMPLATES])  # (k,)
    wanted = MEAN_REWARD * (1.0 + rng.permutation(POPULARITY))  # (k,)

    def solve(strength: float) -> Truth:
        purchase = expit(bought + PURCHASE_TASTE * strength * match)
        value = REWARD_WEIGHTS["click"] + REWARD_WEIGHTS["purchase"] * purchase
        intercept = np.full(len(TEMPLATES), logit(MEAN_REWARD))
        for _ in range(40):
            click = expit(intercept + main + strength * match)
            earned = np.where(eligible, click * value, 0.0).sum(axis=0) / eligible.sum(axis=0)
            if np.all(np.abs(earned / wanted - 1.0) < 1e-4):
                break
            intercept += np.log(wanted / earned)  # rates are small: nearly exact
        return Truth(click=click, purchase=purchase)

    strength = brentq(
        lambda s: _oracle_ratio(solve(s), eligible) - ORACLE_RATIO, 0.0, 4.0, xtol=1e-3
    )
    return solve(strength)


def _oracle_ratio(truth: Truth, eligible: NDArray[np.bool_]) -> float:
    rewards = truth.expected_reward(REWARD_WEIGHTS)
    reached = eligible.any(axis=1)
    best = np.where(eligible, rewards, -np.inf)[reached].max(axis=1)
    uniform = np.where(eligible, rewards, 0.0).sum(axis=1)[reached] / eligible[reached].sum(axis=1)
    return float(best.mean() / uniform.mean())


def _tastes(
    rng: np.random.Generator, traits: Mapping[str, NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Draw each person's taste for each template feature, (n, d_action)."""
    n_people = len(next(iter(traits.values())))
    tastes = np.empty((n_people, len(FEATURES)))
    for column, feature in enumerate(FEATURES):
        weights = TASTES[feature]
        explained = np.zeros(n_people)
        for trait, weight in weights.items():
            explained += weight * rng.lognormal(0.0, 0.2) * traits[trait]
        hidden = HIDDEN_SHARE * explained.std() * rng.normal(size=n_people)
        tastes[:, column] = explained + hidden
    return tastes


def _traits(people: People) -> dict[str, NDArray[np.float64]]:
    """Standardise what tastes are made of, each (n,); an age that was not told counts as usual."""
    columns = people.columns
    age = columns["age"]
    raw = {
        "old": np.where(np.isnan(age), np.nanmean(age), age),
        "plus": columns["plan"] == "plus",
        "pro": columns["plan"] == "pro",
        "tenure": np.minimum(columns["tenure_days"], 1_600),
        "deals": columns["last_discount_used"],
        "active": np.minimum(columns["weekly_sessions"], 15.0),
        "ios": columns["device"] == "ios",
        "US": columns["country"] == "US",
    }
    return {name: (values - values.mean()) / values.std() for name, values in raw.items()}


def _curved_traits(people: People) -> dict[str, NDArray[np.float64]]:
    """Traits under the same names that no single attribute tells in a straight line, each (n,).

    A band is the middle half of a number's values; a pair is whether one of two holds, not both.
    """
    columns = people.columns
    age = np.where(np.isnan(columns["age"]), np.nanmedian(columns["age"]), columns["age"])
    ios, deals = columns["device"] == "ios", columns["last_discount_used"]
    middle_aged = _in_the_middle(age)
    raw = {
        "old": middle_aged,
        "plus": (columns["plan"] == "plus") ^ ios,
        "pro": (columns["plan"] == "free") ^ deals,
        "tenure": _in_the_middle(columns["tenure_days"]),
        "deals": deals ^ ios,
        "active": _in_the_middle(columns["weekly_sessions"]),
        "ios": ios ^ middle_aged,
        "US": (columns["country"] == "US") ^ deals,
    }
    return {name: (values - values.mean()) / values.std() for name, values in raw.items()}


def _in_the_middle(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    low, high = np.quantile(values, (0.25, 0.75))
    inside: NDArray[np.bool_] = (values > low) & (values <= high)
    return inside
