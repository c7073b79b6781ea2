"""Any River regressor as a reward model."""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from river import base, compose

from schemas.errors import PolicyError
from streams.core.policies.data import LARGEST, ActionSet, Examples, FloatArray
from streams.core.policies.linear_statistics import crossed
from streams.core.policies.plain_objects import as_plain
from streams.core.policies.plain_reader import from_plain
from streams.core.policies.reward_model import RewardModel, shared_dimension
from streams.core.policies.river_catalogue import FAILURES
from streams.core.policies.shared_linear import with_constant

__all__ = ["VIEWS", "RiverModel"]

VIEWS = ("user", "both", "crossed")
# factors that grow beyond a float end as what is not believed: nothing to warn of each time
RUNS_AWAY = np.errstate(over="ignore", invalid="ignore")
ALL = ""  # the key of the one model where actions share it


class RiverModel(RewardModel):
    """A regressor over the user's features for each action, or one for all over both.

    Parameters
    ----------
    d_user, d_action
        Features of a context and of an action.
    make
        Makes a regressor that has learned nothing yet.
    view
        What the regressor sees: ``user``: x alone, a regressor for each action; ``both``: x and
        a; ``crossed``: their products too, for linear ones. All have a constant beside.
    base_reward
        Expected of an action that was never learned, and where a regressor gives no number.
    corrections
        Whether a correction is learned as one more example, or left out. Neither is exact: a
        regressor does not unlearn.
    """

    def __init__(
        self,
        d_user: int,
        d_action: int,
        *,
        make: Callable[[], base.Regressor],
        view: str,
        base_reward: float,
        corrections: bool,
    ) -> None:
        self._make = make
        self._view = view
        self._base_reward = base_reward
        self._corrections = corrections
        match view:
            case "user":
                width = 1 + d_user
            case "both":
                width = 1 + d_user + d_action
            case _:
                width = shared_dimension(d_user, d_action)
        self._names = [f"x{column}" for column in range(width)]
        self.models: dict[str, base.Regressor] = {}

    @property
    def tells_apart(self) -> bool:
        """Whether each action has a regressor of its own."""
        return self._view == "user"

    @RUNS_AWAY
    def learn(self, examples: Examples) -> None:
        """Learn examples one after the other, in their order.

        Raises
        ------
        PolicyError
            If the regressor cannot take an example.
        """
        rows = self._rows(examples.contexts, examples.action_features)
        new = examples.is_new
        for index, row in enumerate(rows.tolist()):
            if not (new[index] or self._corrections):
                continue
            key = examples.actions[index] if self._view == "user" else ALL
            if key not in self.models:
                self.models[key] = self._make()
            try:
                self.models[key].learn_one(
                    dict(zip(self._names, row, strict=True)), float(examples.rewards[index])
                )
            except FAILURES as error:
                raise PolicyError(
                    f"River's {self.models[key]} cannot learn a reward of "
                    f"{examples.rewards[index]} ({error}): choose another regressor"
                ) from error

    @RUNS_AWAY
    def expected(self, contexts: FloatArray, actions: ActionSet) -> FloatArray:
        """Give predictions, (n, n_actions)."""
        expected = np.full((len(contexts), len(actions)), self._base_reward)
        for column, name in enumerate(actions.ids):
            model = self.models.get(name if self._view == "user" else ALL)
            if model is None:
                continue
            same = np.broadcast_to(actions.features[column], (len(contexts), actions.d_action))
            for index, row in enumerate(self._rows(contexts, same).tolist()):
                expected[index, column] = self._predicted(model, row)
        return expected

    def retire(self, actions: Collection[str]) -> None:
        """Drop the regressors of these actions."""
        for name in actions:
            if name != ALL:
                self.models.pop(name, None)

    def learned(self) -> dict[str, object]:
        """Give the regressors as plain data."""
        return {name: as_plain(self.models[name]) for name in sorted(self.models)}

    def restore(self, learned: Mapping[str, Any]) -> None:
        """Make the regressors anew.

        Raises
        ------
        PolicyError
            If one is not what the policy's parameters make.
        """
        models = {name: from_plain(nodes) for name, nodes in learned.items()}
        wanted = _outline(self._make())
        for name, model in models.items():
            if _outline(model) != wanted:
                raise PolicyError(
                    f"the regressor of action {name!r} is a {_outline(model)}, not a {wanted}: "
                    "take another snapshot"
                )
        self.models = models

    def _rows(self, contexts: FloatArray, action_features: FloatArray) -> FloatArray:
        if self._view == "user":
            return with_constant(contexts)
        if self._view == "both":
            return with_constant(np.hstack([contexts, action_features]))
        return crossed(contexts, action_features)

    def _predicted(self, model: base.Regressor, row: list[float]) -> float:
        try:
            value = float(model.predict_one(dict(zip(self._names, row, strict=True))))
        except FAILURES:
            return self._base_reward
        if np.isnan(value):
            return self._base_reward
        return min(max(value, -LARGEST), LARGEST)


def _outline(part: object) -> str:
    """Give the classes that a model is made of: a pipeline's steps, and what it was made with."""
    if isinstance(part, list | tuple):
        return f"[{', '.join(filter(None, map(_outline, part)))}]"
    if not isinstance(part, base.Base):
        return ""  # a number or a word
    if isinstance(part, compose.Pipeline):
        inside = [f"{name}={_outline(step)}" for name, step in part.steps.items()]
    else:
        words = inspect.signature(type(part)).parameters
        parts = {word: _outline(getattr(part, word, None)) for word in words}
        inside = [f"{word}={one}" for word, one in parts.items() if one]
    return f"{type(part).__name__}({', '.join(inside)})" if inside else type(part).__name__
