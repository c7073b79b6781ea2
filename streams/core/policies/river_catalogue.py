"""River's regressors by name, made from the words of a campaign's definition."""

import inspect
import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from river import base, compose, ensemble, forest, linear_model, neighbors, preprocessing, tree

from schemas.errors import PolicyError
from streams.core.policies.parameters import nearest
from streams.core.policies.plain_objects import as_plain

__all__ = ["FAILURES", "REGRESSORS", "check_regressor", "make_regressor"]

# what River raises where a parameter or a number does not suit it
FAILURES = (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError)

MODULES = (linear_model, tree, neighbors, ensemble, forest)


def _discovered() -> dict[str, type[base.Regressor]]:
    """Find every regressor of one target that River offers in these modules."""
    found = {}
    for module in MODULES:
        for name in module.__all__:
            kind = getattr(module, name)
            if (
                inspect.isclass(kind)
                and issubclass(kind, base.Regressor)
                and not issubclass(kind, base.MultiTargetRegressor)
                and not inspect.isabstract(kind)
            ):
                found[f"{module.__name__.removeprefix('river.')}.{name}"] = kind
    return found


REGRESSORS: Mapping[str, type[base.Regressor]] = MappingProxyType(_discovered())
PARTS: Mapping[str, type] = MappingProxyType(
    {**REGRESSORS, "neighbors.LazySearch": neighbors.LazySearch}
)


def make_regressor(
    path: str, options: Sequence[str], *, standardise: bool, seed: int
) -> base.Regressor:
    """Make a regressor that has learned nothing yet.

    Parameters
    ----------
    path
        One of :data:`REGRESSORS`, with or without ``river.`` before it.
    options
        Its parameters as ``name=value``, the value in JSON. A name of :data:`REGRESSORS` is made
        into one, with its defaults, so that ensembles can be told their members. Where nearest
        neighbours are given no engine, it is LazySearch: River's default keeps a graph that has
        no order to write it in.
    standardise
        Whether features and rewards are centred and scaled by what was seen so far, before they
        reach it.
    seed
        For regressors that take one and are not given any.

    Raises
    ------
    PolicyError
        If there is no such regressor, or it cannot be made with these parameters.
    """
    name = path.removeprefix("river.")
    if name not in REGRESSORS:
        raise PolicyError(f"there is no River regressor {path!r}: {nearest(name, REGRESSORS)}")
    kind = REGRESSORS[name]
    known = [word for word in inspect.signature(kind).parameters if word != "kwargs"]
    given: dict[str, Any] = {}
    for option in options:
        word, equals, value = option.partition("=")
        if not equals:
            raise PolicyError(f"an option of {name} is written name=value, got {option!r}")
        if word not in known:
            raise PolicyError(f"River's {name} has no parameter {word!r}: {nearest(word, known)}")
        given[word] = _value(value)
    if "seed" in known:
        given.setdefault("seed", seed)
    if name == "neighbors.KNNRegressor":
        given.setdefault("engine", neighbors.LazySearch())
    try:
        return _pipeline(kind(**given), standardise)
    except FAILURES as error:
        raise PolicyError(f"River's {name} cannot be made with {list(options)}: {error}") from error


def check_regressor(
    path: str, options: Sequence[str], *, standardise: bool, seed: int
) -> base.Regressor:
    """Make a regressor, and refuse one that cannot learn, predict or be written as data.

    Raises
    ------
    PolicyError
        As :func:`make_regressor`; River finds many a wrong parameter only when it learns.
    """
    made = make_regressor(path, options, standardise=standardise, seed=seed)
    trial = made.clone()
    try:
        for reward in (0.0, 1.0):
            trial.learn_one({"x0": reward}, reward)
            trial.predict_one({"x0": 0.5})
    except FAILURES as error:
        raise PolicyError(f"River's {path} cannot learn with {list(options)}: {error}") from error
    as_plain(trial)
    return made


def _pipeline(model: base.Regressor, standardise: bool) -> base.Regressor:
    if not standardise:
        return model
    # the reward too: that gives a level to regressors that have no constant
    return compose.Pipeline(
        preprocessing.StandardScaler(), preprocessing.TargetStandardScaler(regressor=model)
    )


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text  # a word without its quotes
    if isinstance(value, list):
        return [_part(item) for item in value]
    return _part(value)


def _part(value: Any) -> Any:
    if isinstance(value, dict | list):
        raise PolicyError(f"an option is a number, a word or a list of them, got {value!r}")
    if isinstance(value, str) and value.removeprefix("river.") in PARTS:
        return PARTS[value.removeprefix("river.")]()
    return value
