# ruff: noqa: SLF001  River's Rust classes are found where its own objects hold them
"""The classes, functions and methods that a snapshot of a River model may name: those it needs.

Whoever can write a snapshot's bytes can write any name. So what can be called is a closed list,
each looked up in a table and never by its name; the rest are classes whose objects only hold
numbers, each other, and what is on that list.
"""

import functools
import importlib
import statistics
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from river import (
    bandit,
    compose,
    drift,
    ensemble,
    forest,
    linear_model,
    metrics,
    neighbors,
    optim,
    preprocessing,
    proba,
    stats,
    utils,
)
from river.ensemble.streaming_random_patches import BaseSRPRegressor
from river.forest.adaptive_random_forest import BaseTreeRegressor
from river.forest.online_extra_trees import (
    BaggingSampler,
    ConstantSampler,
    ETRegressor,
    ExtraTrees,
    SubBaggingSampler,
)
from river.tree.splitter.ebst_splitter import EBSTNode
from river.tree.splitter.nominal_splitter_reg import NominalSplitterReg
from river.utils.vectordict import euclidean_distance_tuple

from schemas.errors import PolicyError

__all__ = [
    "RANDOM",
    "RUST_STATEFUL",
    "RUST_VECTOR",
    "class_of",
    "function_of",
    "method_of",
    "name_of",
    "partial_of",
    "slots_of",
    "vector_factory",
]

# River's Rust classes: one is a dictionary, the other gives and takes its state as bytes
RUST_VECTOR: type = utils.VectorDict
RUST_STATEFUL: tuple[type, ...] = (
    type(drift.ADWIN()._helper),
    type(stats.EWMean()._ewmean),
)
# the generator that River's objects hold; what is drawn here is drawn from numpy's
RANDOM: type = type(proba.Beta()._rng)


def _named(things: Iterable[Any]) -> Mapping[str, Any]:
    return MappingProxyType({_name(thing): thing for thing in things})


def _name(thing: Any) -> str:
    return f"{thing.__module__}:{thing.__qualname__}"


# classes of objects; those of trees are many, and all of one package
CLASSES = _named(
    (
        *(bandit.BayesUCB, bandit.EpsilonGreedy, bandit.Exp3, bandit.RandomPolicy),
        *(bandit.ThompsonSampling, bandit.UCB),
        compose.Pipeline,
        drift.ADWIN,
        *(ensemble.BaggingRegressor, ensemble.EWARegressor, ensemble.SRPRegressor),
        BaseSRPRegressor,
        *(forest.AMFRegressor, forest.ARFRegressor, forest.OXTRegressor),
        *(BaseTreeRegressor, ETRegressor, BaggingSampler, ConstantSampler, SubBaggingSampler),
        *(linear_model.BayesianLinearRegression, linear_model.LinearRegression),
        linear_model.PARegressor,
        *(metrics.MAE, metrics.MSE),
        *(neighbors.KNNRegressor, neighbors.LazySearch),
        *(optim.SGD, optim.initializers.Zeros, optim.schedulers.Constant),
        *(optim.losses.EpsilonInsensitiveHinge, optim.losses.Squared),
        *(preprocessing.StandardScaler, preprocessing.TargetStandardScaler),
        *(proba.Beta, proba.Gaussian),
        *(stats.Cov, stats.EWMean, stats.Mean, stats.Var),
        statistics.NormalDist,
        *RUST_STATEFUL,
    )
)
TREES = "river.tree."
# what objects hold to call it, or a dictionary to fill itself by
FUNCTIONS = _named(
    (
        *(dict, float, int),
        proba.Beta,
        BaseSRPRegressor,
        *(ExtraTrees._detection_mode_all, ExtraTrees._detection_mode_drop),
        ExtraTrees._detection_mode_off,
        *(EBSTNode._update_estimator_univariate, NominalSplitterReg._update_estimator_univariate),
        linear_model.PARegressor._calc_tau_0,  # a method of the class itself
        euclidean_distance_tuple,
    )
)
METHODS: Mapping[type, tuple[str, ...]] = MappingProxyType(
    {
        bandit.ThompsonSampling: ("_clone_reward_obj_with_seed",),
        linear_model.PARegressor: ("_calc_tau_1", "_calc_tau_2"),
        preprocessing.TargetStandardScaler: ("_scale", "_unscale"),
        proba.Beta: ("clone",),
        proba.Gaussian: ("clone",),
        stats.EWMean: ("clone",),
        stats.Mean: ("clone",),
    }
)


def name_of(value: Any, find: Callable[[str], Any]) -> str:
    """Give the name under which :func:`class_of` or :func:`function_of` finds something.

    Raises
    ------
    PolicyError
        If it is none that a snapshot may name.
    """
    name = _name(value)
    if find(name) != value:
        raise PolicyError(f"a snapshot cannot name {name}: it is another object than it says")
    return name


def class_of(name: str) -> type:
    """Give the class of a name, ``module:name``, whose objects a snapshot may hold.

    Raises
    ------
    PolicyError
        If a snapshot may not hold them, or it does not exist.
    """
    if name in CLASSES:
        found: type = CLASSES[name]
        return found
    module, _, path = name.partition(":")
    if not module.startswith(TREES):
        raise PolicyError(
            f"a snapshot cannot hold {name.replace(':', '.')}: only River's models, their parts "
            "and Python's containers have a place in one"
        )
    try:
        tree: Any = vars(importlib.import_module(module))[path]
    except (ImportError, KeyError) as error:
        raise PolicyError(
            f"River has no {module}.{path}: run the version that wrote the snapshot"
        ) from error
    if not isinstance(tree, type) or _name(tree) != name:
        raise PolicyError(f"{module}.{path} is no class that is defined there: name it by that")
    return tree


def function_of(name: str) -> Any:
    """Give the function of a name, or the class that is called as one.

    Raises
    ------
    PolicyError
        If it is none of :data:`FUNCTIONS`.
    """
    if name not in FUNCTIONS:
        raise PolicyError(
            f"a snapshot cannot hold {name.replace(':', '.')} to call it: "
            "it is none of the functions that River's models here need"
        )
    return FUNCTIONS[name]


def method_of(owner: object, name: str) -> types.MethodType:
    """Give an object's method, as its class defines it.

    Raises
    ------
    PolicyError
        If it is none of :data:`METHODS`.
    """
    kind = type(owner)
    needed = METHODS.get(kind, ())
    if name not in needed:
        raise PolicyError(
            f"a snapshot cannot hold the method {name} of {kind.__module__}.{kind.__qualname__}: "
            f"River's models need {' and '.join(needed) or 'none'} of it"
        )
    return types.MethodType(getattr(kind, name), owner)


def partial_of(function: Any, arguments: Sequence[Any]) -> functools.partial[float]:
    """Give the function of no arguments that gives a number: what Exp3 weighs a new action by.

    Raises
    ------
    PolicyError
        If it is of another function, or of anything but one number.
    """
    if function is not float or [type(one) for one in arguments] not in ([int], [float]):
        raise PolicyError(
            f"a snapshot cannot hold a partial {getattr(function, '__qualname__', function)} of "
            f"{list(arguments)}: "
            "River's models need none but float of one number"
        )
    return functools.partial(float, *arguments)


def vector_factory(made: Any) -> Any:
    """Give what a vector may fill itself by: nothing, or the noughts of a linear model's L1.

    Raises
    ------
    PolicyError
        If it is anything else.
    """
    if type(made) not in (types.NoneType, optim.initializers.Zeros):
        raise PolicyError(
            f"a snapshot holds no vector that fills itself by a {type(made).__name__}: "
            "River's models need none but Zeros"
        )
    return made


def slots_of(kind: type) -> list[str]:
    """Give the attributes that a class and its bases keep in slots."""
    slots: list[str] = []
    for base in reversed(kind.__mro__):
        own = vars(base).get("__slots__", ())
        slots += [own] if isinstance(own, str) else list(own)
    return [name for name in slots if name not in {"__dict__", "__weakref__"}]
