"""A linear model of what actions share by their features, and of what each has of its own."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from schemas.errors import PolicyError
from schemas.hashing import id_hash
from streams.core.policies.beliefs import Beliefs
from streams.core.policies.best_shares import WEIGHTS, shares_of_plans
from streams.core.policies.data import ActionSet, BoolArray, Examples, FloatArray
from streams.core.policies.disjoint_linear import LARGEST_DISJOINT
from streams.core.policies.gaussian import Gaussian
from streams.core.policies.linear_statistics import Statistics, statistics_of
from streams.core.policies.prior_scale import BELIEF, STEPS, SWEEPS
from streams.core.policies.reward_model import BayesianModel, shared_dimension
from streams.core.policies.shared_linear import NOISE_WEIGHT, with_constant

__all__ = ["HierarchicalLinear"]

REFIT = 0.1  # of the weight must be new before precisions are chosen again
JITTER = 1e-10  # on a diagonal of ones
GROUPS = 5  # effects of user, action, both; and an action's own level and effects of the user
OWN = 1.0  # what an action has of its own is believed to be so many times less in variance


@dataclass(frozen=True, slots=True, kw_only=True)
class _Joint:
    """The posterior of shared weights theta, and of each action's own given theta.

    ``w_k = Theta (1, a_k)' + v_k`` with ``v_k ~ N(0, s² diag(1 / own))``.
    """

    shared: Gaussian
    inverse: FloatArray  # (U_k + P)^-1, (K, p, p)
    root: FloatArray  # its factor C with C C' = inverse, (K, p, p)
    shape: float
    rate: float
    evidence: float
    own: FloatArray  # the diagonal of P, (p,)

    @property
    def noise_variance(self) -> float:
        return self.rate / self.shape


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stack:
    """The sums of all actions, aged alike, in the order of their sorted keys."""

    place: dict[str, int]
    acts: FloatArray  # (1, a), (K, q)
    grams: FloatArray  # U, (K, p, p)
    moments: FloatArray  # (K, p)
    power: float
    weight: float


class HierarchicalLinear(BayesianModel):
    """The reward of action a is ``(1, x) (Theta (1, a)' + v_a)`` plus noise.

    Theta is shared by all actions and scores one never sent by its features; v_a is what the
    features do not tell of a, held near nil until its sends say otherwise. How large each kind of
    effect is comes from the data (empirical Bayes), so that actions with nothing in common come
    to learn apart, and actions told by their features together [1]_.

    What is kept is a sum for each action and the features that it was sent with; v is integrated
    out by its Schur complement, which keeps a hundred actions cheap.

    Parameters
    ----------
    d_user, d_action
        Features of a context and of an action; (1 + d_user)(1 + d_action) is at most 512, and
        actions times (1 + d_user) at most 8,192.
    beliefs
        What is believed before any example.

    References
    ----------
    .. [1] Gelman & Hill 2007, Data Analysis Using Regression and Multilevel Models, chapter 13.
    """

    def __init__(self, d_user: int, d_action: int, beliefs: Beliefs) -> None:
        self.d = shared_dimension(d_user, d_action)
        self._p, self._q = 1 + d_user, 1 + d_action
        self._beliefs = beliefs
        # by action and features: should a template's features change, what was its own does too
        self.sums: dict[str, Statistics] = {}
        self.features: dict[str, FloatArray] = {}
        self.at_ms: int | None = None
        self._factors = (1.0,) * GROUPS  # on the believed precisions
        self._since = 0  # examples learned since these were chosen
        self._joint: _Joint | None = None
        self._stacked: _Stack | None = None

    # ---- learning

    def learn(self, examples: Examples) -> None:
        """Learn examples, corrections exactly.

        Raises
        ------
        PolicyError
            If actions times features are more than :data:`LARGEST_DISJOINT`.
        """
        keys = _keys(examples)
        self._since += int(examples.is_new.sum())
        self._bound(len(self.sums.keys() | set(keys.tolist())))
        for key in sorted(set(keys.tolist())):
            mine = examples.taking(keys == key)
            alone = Examples(
                contexts=mine.contexts,
                actions=mine.actions,
                action_features=np.zeros((len(mine), 0)),
                rewards=mine.rewards,
                previous=mine.previous,
                at_ms=mine.at_ms,
            )
            self._fold(
                key, mine.action_features[0], statistics_of(alone, self._beliefs.half_life_ms)
            )

    def foreseen(self, examples: Examples) -> tuple[FloatArray, FloatArray]:
        """Give errors of the expected rewards, (n,), and variances over s² of the rewards, (n,)."""
        error, variance = np.empty(len(examples)), np.empty(len(examples))
        keys = _keys(examples)
        for key in sorted(set(keys.tolist())):
            rows = keys == key
            mine = examples.taking(rows)
            users = with_constant(mine.contexts)
            mean, cover = self._plan(key, mine.action_features[0])
            error[rows] = mine.rewards - users @ mean
            variance[rows] = 1.0 + np.maximum(((users @ cover) * users).sum(axis=1), 0.0)
        return error, variance

    @property
    def noise_variance(self) -> float:
        """The noise that is believed in."""
        return self._fitted().noise_variance

    # ---- what is believed

    def expected(self, contexts: FloatArray, actions: ActionSet) -> FloatArray:
        """Give the expected reward of each action, (n, n_actions)."""
        plans = [self._plan(_key(name, a), a)[0] for name, a in _each(actions)]
        expected: FloatArray = with_constant(contexts) @ np.stack(plans, axis=1)
        return expected

    def spread(self, contexts: FloatArray, actions: ActionSet) -> FloatArray:
        """Give the standard deviation of each expected reward, (n, n_actions)."""
        users, columns = with_constant(contexts), []
        for name, a in _each(actions):
            cover = self._plan(_key(name, a), a)[1]
            columns.append(np.maximum(((users @ cover) * users).sum(axis=1), 0.0))
        spread: FloatArray = np.sqrt(self._fitted().noise_variance * np.stack(columns, axis=1))
        return spread

    def shares(
        self,
        contexts: FloatArray,
        actions: ActionSet,
        eligible: BoolArray,
        rng: np.random.Generator,
        *,
        draws: int,
        widen: float,
        handicap: FloatArray | None,
    ) -> FloatArray:
        """Estimate how often each action is the best; every action has its own random stream."""
        self._bound(len(actions))
        joint = self._fitted()
        chunk = int(rng.integers(1 << 62))
        streams = [np.random.default_rng((chunk, id_hash(name))) for name in actions.ids]
        by_draw = max(1, min(draws, WEIGHTS // (self._p * len(actions))))
        acts = with_constant(actions.features)
        keys = [_key(name, a) for name, a in _each(actions)]

        def plans() -> Iterator[FloatArray]:
            for first in range(0, draws, by_draw):
                m = min(by_draw, draws - first)
                noise = np.sqrt(joint.rate / rng.standard_gamma(joint.shape, m))  # s, (m,)
                spread: FloatArray = widen * noise[:, None]
                drawn = joint.shared.mean + spread * joint.shared.normals(m, rng)
                theta = drawn.reshape(m, self._p, self._q)
                plan = np.empty((len(keys), self._p, m))
                for index, (key, act) in enumerate(zip(keys, acts, strict=True)):
                    told = theta @ act  # (m, p)
                    mean, root = self._own(key, told)
                    white = streams[index].standard_normal((m, self._p))
                    plan[index] = (told + mean + spread * (white @ root.T)).T
                yield plan - plan.mean(axis=0)

        return shares_of_plans(contexts, eligible, plans(), handicap)

    def _own(self, key: str, told: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Give mean (m, p) and factor (p, p) of what an action has of its own, given the rest."""
        joint = self._fitted()
        if key not in self.sums:
            return np.zeros_like(told), np.diag(1.0 / np.sqrt(joint.own))
        stack = self._stack()
        index = stack.place[key]
        mean = (stack.moments[index] - told @ stack.grams[index]) @ joint.inverse[index]
        return mean, joint.root[index]

    def _plan(self, key: str, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Give mean (p,) and covariance over s² (p, p) of an action's weights."""
        joint = self._fitted()
        act = np.concatenate([[1.0], features])
        told = joint.shared.mean.reshape(self._p, self._q) @ act  # (p,)
        mean, root = self._own(key, told[None, :])
        # w = (I - G U) Theta a + v0, G = (U + P)^-1: the covariance of Theta a goes through G P
        keep = np.eye(self._p)
        if key in self.sums:
            keep = joint.inverse[self._stack().place[key]] * joint.own
        wide = np.kron(keep, act[None, :])  # (p, d)
        half = solve_triangular(
            joint.shared.factor,
            joint.shared.scale[:, None] * wide.T,
            lower=True,
            check_finite=False,
        )  # (d, p)
        cover: FloatArray = half.T @ half + root @ root.T
        return told + mean[0], cover

    # ---- the posterior

    def _fitted(self) -> _Joint:
        if self._joint is None:
            self._joint = self._solve(self._factors)
        return self._joint

    def fit_scales(self) -> None:
        """Choose each group's precision by the evidence, where enough is new since the last time.

        As :func:`~streams.core.policies.prior_scale.fit_scales`; it is for whoever learns to ask.
        """
        enough = self._since >= REFIT * self._stack().weight
        if not (self._beliefs.adapt and self.sums and enough):
            return
        self._since = 0
        chosen = self._factors
        best = self._fitted()
        score = best.evidence + _belief(chosen)
        for _ in range(SWEEPS):
            before = chosen
            for group in range(GROUPS):
                for step in STEPS:
                    if step == chosen[group]:
                        continue
                    trial = (*chosen[:group], step, *chosen[group + 1 :])
                    joint = self._solve(trial)
                    if joint.evidence + _belief(trial) > score:
                        best, chosen, score = joint, trial, joint.evidence + _belief(trial)
            if chosen == before:
                break
        self._joint, self._factors = best, chosen

    def _solve(self, factors: Sequence[float]) -> _Joint:
        beliefs, p, q = self._beliefs, self._p, self._q
        level, both = beliefs.main_precision, beliefs.interaction_precision
        precision = np.full((p, q), both * factors[2])
        precision[1:, 0] = level * factors[0]
        precision[0, 1:] = level * factors[1]
        precision[0, 0] = 1.0
        own = np.full(p, OWN * both * factors[4])
        own[0] = OWN * level * factors[3]
        mean0 = np.zeros(self.d)
        mean0[0] = beliefs.base_reward
        flat = precision.ravel()
        stack = self._stack()
        acts, moments = stack.acts, stack.moments
        # (U + P)^-1 of each action, by Cholesky factors of what has a diagonal of ones
        whole = stack.grams + np.diag(own)  # (K, p, p)
        scale = 1.0 / np.sqrt(np.diagonal(whole, axis1=1, axis2=2))  # (K, p)
        unit = whole * scale[:, :, None] * scale[:, None, :] + JITTER * np.eye(p)
        factor = np.linalg.cholesky(unit)
        root = scale[:, :, None] * np.linalg.inv(factor).transpose(0, 2, 1)
        inverse = root @ root.transpose(0, 2, 1)
        # what is left for Theta: U - U (U + P)^-1 U = P - P (U + P)^-1 P
        left = np.diag(own) - own[:, None] * inverse * own
        left = (left + left.transpose(0, 2, 1)) / 2.0
        told = own[:, None] * (inverse @ moments[:, :, None])  # P (U + P)^-1 m, (K, p, 1)
        pairs = (acts[:, :, None] * acts[:, None, :]).reshape(len(acts), q * q)
        shared = (left.reshape(len(acts), p * p).T @ pairs).reshape(p, p, q, q)
        shared = shared.transpose(0, 2, 1, 3).reshape(self.d, self.d)
        information = np.einsum("kia,ku->iu", told, acts).ravel() + flat * mean0
        theta = Gaussian.solved(shared + np.diag(flat), information)
        residual = (
            stack.power
            + float((flat * mean0) @ mean0)
            - float((moments * (inverse @ moments[:, :, None])[:, :, 0]).sum())
            - float(theta.mean @ information)
        )
        shape = (NOISE_WEIGHT + stack.weight) / 2.0
        rate = (beliefs.noise_variance * NOISE_WEIGHT + max(residual, 0.0)) / 2.0
        half_log_det = float(
            np.log(np.diagonal(factor, axis1=1, axis2=2)).sum() - np.log(scale).sum()
        )
        evidence = (
            (np.log(flat).sum() + len(acts) * np.log(own).sum()) / 2.0
            - theta.half_log_det
            - half_log_det
            - shape * np.log(rate)
        )
        return _Joint(
            shared=theta,
            inverse=inverse,
            root=root,
            shape=shape,
            rate=rate,
            evidence=float(evidence),
            own=own,
        )

    def _stack(self) -> _Stack:
        if self._stacked is None:
            p, keys = self._p, sorted(self.sums)
            aged = [self.sums[key].aged(self.at_ms, self._beliefs.half_life_ms) for key in keys]
            features = np.array([self.features[key] for key in keys])
            self._stacked = _Stack(
                place={key: index for index, key in enumerate(keys)},
                acts=with_constant(features.reshape(len(keys), self._q - 1)),
                grams=np.array([one.gram for one in aged]).reshape(len(keys), p, p),
                moments=np.array([one.moment for one in aged]).reshape(len(keys), p),
                power=sum(one.power for one in aged),
                weight=sum(one.weight for one in aged),
            )
        return self._stacked

    # ---- state

    def rescale(self, factor: float) -> None:
        """Go on as if every reward so far had been multiplied by a factor."""
        self.sums = {key: sums.rescaled(factor) for key, sums in self.sums.items()}
        self._changed()

    def retire(self, actions: Collection[str]) -> None:
        """Forget these actions' own; what they taught of the shared weights goes with it."""
        for key in [key for key in self.sums if key.split(":", 1)[1] in actions]:
            del self.sums[key], self.features[key]
        self._changed()

    def learned(self) -> dict[str, object]:
        """Give the sums of each action, and the features that it was sent with."""
        actions = {
            key: {"sums": self.sums[key].state(), "features": self.features[key]}
            for key in sorted(self.sums)
        }
        return {
            "at_ms": self.at_ms,
            "factors": np.array(self._factors),
            "since": self._since,
            "actions": actions,
        }

    def restore(self, learned: Mapping[str, Any]) -> None:
        """Take up the sums of each action."""
        self.at_ms = None if learned["at_ms"] is None else int(learned["at_ms"])
        factors, self._since = np.array(learned["factors"]), int(learned["since"])
        if factors.shape != (GROUPS,) or not (factors > 0.0).all():
            raise PolicyError(
                f"precisions must have {GROUPS} positive factors, got {factors}: "
                "take another snapshot"
            )
        self._factors = tuple(factors.tolist())
        self._bound(len(learned["actions"]))
        self.sums, self.features = {}, {}
        for key, kept in learned["actions"].items():
            self.sums[key] = Statistics.from_state(kept["sums"], self._p)
            if np.shape(kept["features"]) != (self._q - 1,):
                raise PolicyError(
                    f"action {key!r} must have {self._q - 1} features, got "
                    f"{np.size(kept['features'])}: take another snapshot"
                )
            self.features[key] = np.array(kept["features"])
        self._changed()

    def _add(self, source: "HierarchicalLinear", discount: float) -> None:
        self._bound(len(self.sums.keys() | source.sums.keys()))
        if not self.sums:
            self._factors = source._factors  # noqa: SLF001 - one of its own kind
        for key, sums in sorted(source.sums.items()):
            self._fold(key, source.features[key], sums.discounted(discount))

    def _fold(self, key: str, features: FloatArray, sums: Statistics) -> None:
        before = self.sums.get(key, Statistics.empty(self._p))
        after = self.sums[key] = before.plus(sums, self._beliefs.half_life_ms)
        self.features[key] = features
        if after.at_ms is not None:
            self.at_ms = after.at_ms if self.at_ms is None else max(self.at_ms, after.at_ms)
        self._changed()

    def _changed(self) -> None:
        self._joint = None
        self._stacked = None

    def _bound(self, n_actions: int) -> None:
        if n_actions * self._p > LARGEST_DISJOINT:
            raise PolicyError(
                f"n_actions (1 + d_user) must be at most {LARGEST_DISJOINT}, got "
                f"{n_actions} x {self._p}: retire actions that will not come back, "
                "or share one model ('linear-thompson')"
            )


def _each(actions: ActionSet) -> Iterator[tuple[str, FloatArray]]:
    return zip(actions.ids, actions.features, strict=True)


def _keys(examples: Examples) -> NDArray[np.str_]:
    pairs = zip(examples.actions, examples.action_features, strict=True)
    return np.array([_key(name, features) for name, features in pairs])


def _key(name: str, features: FloatArray) -> str:
    return _named(name, features.tobytes())


@lru_cache(maxsize=4096)
def _named(name: str, features: bytes) -> str:
    return f"{id_hash(features.hex()):x}:{name}"


def _belief(factors: Sequence[float]) -> float:
    return -float(sum(np.log10(factor) ** 2 for factor in factors)) / (2.0 * BELIEF**2)
