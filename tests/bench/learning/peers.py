"""Peers as contestants, each with the settings that it is searched over.

Where a peer can look at an action's features, it gets them and their products with the user's;
LinTS, LinUCB and River's know the user alone, with a constant column.
"""

# ruff: noqa: ARG002 - contestants are all called alike

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from streams.core.policies import draw

__all__ = ["PEERS", "make_peer"]


class Uniform:
    def __init__(self, features: np.ndarray, d_user: int, seed: int) -> None:
        pass

    def decide(self, contexts, may, rng):
        taken = rng.choice(np.flatnonzero(may), size=len(contexts))
        return taken, np.full(len(contexts), 1.0 / may.sum())

    def learn(self, wave, contexts, taken, p, rewards):
        pass


class VowpalWabbit:
    """Vowpal Wabbit with action-dependent features, run over files: ten times as fast as lines.

    Parameters
    ----------
    exploration
        Its options for how to explore.
    ids
        Whether an action has its name as a feature, crossed with the user's, beside its features.
    rate
        The learning rate.
    """

    def __init__(
        self,
        features: np.ndarray,
        d_user: int,
        seed: int,
        *,
        exploration: str,
        ids: bool,
        rate: float,
    ) -> None:
        self.n_actions = len(features)
        self.lines = [
            "|A " + _sparse(row) + (f" |I a{index}" if ids else "")
            for index, row in enumerate(features)
        ]
        self.options = (
            f"--cb_explore_adf {exploration} -l {rate} -q UA{' -q UI' if ids else ''}"
            f" --random_seed {1 + seed}"
        )
        self.home = tempfile.TemporaryDirectory(prefix="vw-")
        folder = Path(self.home.name)
        self.model, self.data, self.out = (folder / name for name in ("model", "data", "out"))
        self.again = f"-i {self.model} -l {rate}"  # a model does not keep its learning rate

    def decide(self, contexts, may, rng):
        open_now = np.flatnonzero(may)
        rest = "\n".join(self.lines[index] for index in open_now)
        self.data.write_text("".join(f"shared |U {_sparse(x)}\n{rest}\n\n" for x in contexts))
        start = self.again if self.model.exists() else self.options
        self._run(f"{start} -t -d {self.data} -p {self.out}")
        dist = np.zeros((len(contexts), self.n_actions))
        answers = [line for line in self.out.read_text().split("\n") if line]
        for row, answer in enumerate(answers):
            for pair in answer.split(","):
                index, p = pair.split(":")
                dist[row, open_now[int(index)]] = float(p)
        dist /= dist.sum(axis=1, keepdims=True)
        taken = draw(dist, rng)
        self.open_now = open_now
        return taken, dist[np.arange(len(taken)), taken]

    def learn(self, wave, contexts, taken, p, rewards):
        with self.data.open("w") as data:
            for x, action, odds, reward in zip(contexts, taken, p, rewards, strict=True):
                data.write(f"shared |U {_sparse(x)}\n")
                for index in self.open_now:
                    label = f"0:{-reward:.6g}:{odds:.6g} " if index == action else ""
                    data.write(f"{label}{self.lines[index]}\n")
                data.write("\n")
        start = self.again if self.model.exists() else self.options
        self._run(f"{start} -d {self.data} -f {self.model} --save_resume")

    def _run(self, arguments: str) -> None:
        from vowpalwabbit import Workspace

        Workspace(f"{arguments} --quiet").finish()


def _sparse(row: np.ndarray) -> str:
    return " ".join(f"{index}:{value:.5g}" for index, value in enumerate(row))


class MabWiser:
    def __init__(
        self, features: np.ndarray, d_user: int, seed: int, *, policy: str, **settings: float
    ) -> None:
        from mabwiser.mab import MAB, LearningPolicy

        make = {"LinTS": LearningPolicy.LinTS, "LinUCB": LearningPolicy.LinUCB}[policy]
        self.make = lambda arms: MAB(arms, make(**settings), seed=seed)
        self.mab = None

    def decide(self, contexts, may, rng):
        if self.mab is None:  # it cannot decide before it has seen anything
            self.mab = self.make(np.flatnonzero(may).tolist())
            self.fit = self.mab.fit
            return Uniform.decide(self, contexts, may, rng)
        for arm in np.flatnonzero(may).tolist():
            if arm not in self.mab.arms:
                self.mab.add_arm(arm)
        taken = np.asarray(self.mab.predict(_with_constant(contexts)))
        return taken, np.ones(len(taken))

    def learn(self, wave, contexts, taken, p, rewards):
        self.fit(taken, rewards, _with_constant(contexts))
        self.fit = self.mab.partial_fit


class BayesianBandits:
    """Thompson sampling with normal, inverse gamma regression.

    Parameters
    ----------
    structure
        ``shared``: user, action and their products; ``hybrid``: with a level of each action's own
        beside them; ``disjoint``: a model of the user for each action.
    lam
        Precision of the prior.
    keep
        What an example counts for a wave later.
    """

    def __init__(
        self,
        features: np.ndarray,
        d_user: int,
        seed: int,
        *,
        structure: str,
        lam: float,
        keep: float = 1.0,
    ) -> None:
        from bayesianbandits import (
            Arm,
            ContextualAgent,
            LipschitzContextualAgent,
            NormalInverseGammaRegressor,
            ThompsonSampling,
        )

        self.keep, self.features = keep, features
        learner = NormalInverseGammaRegressor(lam=lam, a=1.0, b=0.03)
        if structure == "hybrid":
            self.features = np.hstack([features, np.eye(len(features))])
        self.plain = structure == "hybrid" and features.shape[1]
        self.disjoint = structure == "disjoint"

        def arm(index: int) -> Any:
            one = NormalInverseGammaRegressor(lam=lam, a=1.0, b=0.03) if self.disjoint else None
            return Arm(index, learner=one)

        def agent(arms: list[int]) -> Any:
            made = [arm(index) for index in arms]
            if self.disjoint:
                return ContextualAgent(made, ThompsonSampling(), random_seed=seed)
            return LipschitzContextualAgent(
                arms=made,
                policy=ThompsonSampling(),
                arm_featurizer=self,
                learner=learner,
                random_seed=seed,
            )

        self.arm, self.make, self.agent, self.arms = arm, agent, None, set()

    def transform(self, x: Any, *, action_tokens: Any) -> np.ndarray:
        """Lay out user, action and products; rows action by action (the agent asks for this)."""
        users = np.asarray(x)  # (n, 1 + d_user)
        parts = []
        for token in action_tokens:
            act = self.features[token]
            crossed = act[: self.plain] if self.plain else act
            block = users[:, :, None] * np.concatenate([[1.0], crossed])
            block = block.reshape(len(users), -1)
            if self.plain:
                block = np.hstack([block, np.tile(act[self.plain :], (len(users), 1))])
            parts.append(block)
        return np.vstack(parts)

    def decide(self, contexts, may, rng):
        now = np.flatnonzero(may).tolist()
        if self.agent is None:
            self.agent = self.make(now)
        else:
            for index in now:
                if index not in self.arms:
                    self.agent.add_arm(self.arm(index))
        self.arms = set(now)
        users = _with_constant(contexts)
        taken = [token for start in range(0, len(users), 250)
                 for token in self.agent.pull(users[start : start + 250])]  # fmt: skip
        return np.array(taken), np.ones(len(taken))

    def learn(self, wave, contexts, taken, p, rewards):
        users = _with_constant(contexts)
        if self.keep < 1.0 and wave:
            self.agent.decay(decay_rate=self.keep)
        for index in np.unique(taken).tolist():
            rows = taken == index
            self.agent.select_for_update(index).update(users[rows], rewards[rows])


class River:
    """River's LinUCBDisjoint, its scores worked out for all users at once."""

    def __init__(
        self, features: np.ndarray, d_user: int, seed: int, *, alpha: float, beta: float
    ) -> None:
        from river.bandit import LinUCBDisjoint

        self.policy = LinUCBDisjoint(alpha=alpha, beta=beta, seed=seed)
        self.beta = beta

    def decide(self, contexts, may, rng):
        users = _with_constant(contexts)
        scores = np.full((len(users), len(may)), -np.inf)
        for arm in np.flatnonzero(may).tolist():
            model = self.policy._bayes_lin_regs[arm]
            if model._cap == 0:  # it looks at no feature that it has not learned with
                known = model.predict_one({}, with_dist=True)
                scores[:, arm] = known.mu + known.sigma
                continue
            model._ensure_m()
            d = users.shape[1]
            mean, cover = model._m_arr[:d], model._ss_inv_arr[:d, :d]
            variance = 1.0 / self.beta + ((users @ cover) * users).sum(axis=1)
            scores[:, arm] = users @ mean + np.sqrt(variance)
        ties = scores == scores.max(axis=1, keepdims=True)
        taken = draw(ties / ties.sum(axis=1, keepdims=True), rng)
        return taken, np.ones(len(taken))

    def learn(self, wave, contexts, taken, p, rewards):
        for x, arm, reward in zip(
            _with_constant(contexts).tolist(), taken.tolist(), rewards.tolist(), strict=True
        ):
            self.policy.update(arm, dict(enumerate(x)), reward)


def _with_constant(contexts: np.ndarray) -> np.ndarray:
    return np.hstack([np.ones((len(contexts), 1)), contexts])


def _vw(explorations: list[str]) -> list[dict[str, Any]]:
    return [
        {"exploration": exploration, "ids": ids, "rate": rate}
        for exploration in explorations
        for ids in (False, True)
        for rate in (0.1, 0.5)
    ]


def _mabwiser(policy: str, alphas: tuple[float, ...]) -> list[dict[str, Any]]:
    return [
        {"policy": policy, "alpha": alpha, "l2_lambda": ridge}
        for alpha in alphas
        for ridge in (1.0, 10.0)
    ]


# eight settings each, from what their documentation gives to what worlds of this size ask for
PEERS: Mapping[str, tuple[Callable[..., Any], list[dict[str, Any]]]] = {
    "VW SquareCB": (
        VowpalWabbit,
        _vw(["--squarecb --gamma_scale 10", "--squarecb --gamma_scale 100"]),
    ),
    # with its uniform exploration of what no policy chooses it hardly learns in so few examples
    "VW cover": (
        VowpalWabbit,
        _vw(["--cover 4 --nounif --psi 0.1", "--cover 4 --nounif --psi 0.01"]),
    ),
    "MABWiser LinTS": (MabWiser, _mabwiser("LinTS", (0.05, 0.15, 0.3, 1.0))),
    "MABWiser LinUCB": (MabWiser, _mabwiser("LinUCB", (0.1, 0.3, 1.0, 2.0))),
    "bayesianbandits": (
        BayesianBandits,
        [
            {"structure": "shared", "lam": 10.0},
            {"structure": "shared", "lam": 100.0},
            {"structure": "shared", "lam": 30.0, "keep": 0.5},
            {"structure": "hybrid", "lam": 10.0},
            {"structure": "hybrid", "lam": 100.0},
            {"structure": "hybrid", "lam": 30.0, "keep": 0.7},
            {"structure": "disjoint", "lam": 10.0},
            {"structure": "disjoint", "lam": 30.0, "keep": 0.7},
        ],
    ),
    "River LinUCBDisjoint": (
        River,
        [{"alpha": a, "beta": b} for a in (1.0, 10.0) for b in (1.0, 10.0, 30.0, 100.0)],
    ),
    "uniform": (Uniform, [{}]),
}


def make_peer(
    name: str, settings: Mapping[str, Any], features: np.ndarray, d_user: int, seed: int
) -> Any:
    """Make a peer that has learned nothing yet."""
    return PEERS[name][0](features, d_user, seed, **settings)
