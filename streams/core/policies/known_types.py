# ruff: noqa: SLF001  River's Rust classes are found where its own objects hold them
"""The classes, functions and methods that a snapshot of a River model may name: those it needs.

Whoever can write a snapshot's bytes can write any name. So what can be called is a closed list,
each looked up in a table and never by its name; the rest are classes whose objects only hold
numbers, each other, and what is on that list.
"""

import collections
import functools
import importlib
import statistics
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from river import (
    bandit,
    compose,
    drift,
    dummy,
    ensemble,
    facto,
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
from river.rules.amrules import AdaptiveRegressor, MeanRegressor
from river.rules.base import NumericLiteral
from river.tree.splitter.ebst_splitter import EBSTNode
from river.tree.splitter.nominal_splitter_reg import NominalSplitterReg
from river.utils.vectordict import euclidean_distance_tuple

from schemas.errors import PolicyError
from streams.core.policies.river_rules import AMRules, Rule

__all__ = [
    "RANDOM",
    "RANDOM_STATE",
    "RUST_STATEFUL",
    "RUST_VECTOR",
    "class_of",
    "function_of",
    "method_of",
    "name_of",
    "partial_of",
    "partial_parts",
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
# and numpy's old one, which factors begin by
RANDOM_STATE: type = np.random.RandomState


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
        dummy.StatisticRegressor,
        *(ensemble.BaggingRegressor, ensemble.EWARegressor, ensemble.SRPRegressor),
        BaseSRPRegressor,
        *(facto.FFMRegressor, facto.FMRegressor, facto.FwFMRegressor, facto.HOFMRegressor),
        *(forest.AMFRegressor, forest.ARFRegressor, forest.OXTRegressor),
        *(BaseTreeRegressor, ETRegressor, BaggingSampler, ConstantSampler, SubBaggingSampler),
        *(linear_model.BayesianLinearRegression, linear_model.LinearRegression),
        linear_model.PARegressor,
        *(metrics.MAE, metrics.MSE),
        *(neighbors.KNNRegressor, neighbors.LazySearch),
        *(optim.AMSGrad, optim.AdaBound, optim.AdaDelta, optim.AdaGrad, optim.AdaMax, optim.Adam),
        *(optim.FTRLProximal, optim.Momentum, optim.Nadam, optim.NesterovMomentum, optim.Newton),
        *(optim.RMSProp, optim.SGD),
        *(optim.initializers.Normal, optim.initializers.Zeros, optim.schedulers.Constant),
        *(optim.losses.Absolute, optim.losses.Cauchy, optim.losses.EpsilonInsensitiveHinge),
        *(optim.losses.Huber, optim.losses.Poisson, optim.losses.Quantile, optim.losses.Squared),
        *(preprocessing.StandardScaler, preprocessing.TargetMinMaxScaler),
        preprocessing.TargetStandardScaler,
        *(proba.Beta, proba.Gaussian),
        *(AMRules, Rule, AdaptiveRegressor, MeanRegressor, NumericLiteral),
        *(stats.Cov, stats.EWMean, stats.Max, stats.Mean, stats.Min, stats.Var),
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
# what is called with arguments of its own, and nowhere else
PARTIALS: Mapping[Any, str] = MappingProxyType(
    {stats.Var: "var", collections.defaultdict: "fields"}
)
METHODS: Mapping[type, tuple[str, ...]] = MappingProxyType(
    {
        bandit.ThompsonSampling: ("_clone_reward_obj_with_seed",),
        linear_model.PARegressor: ("_calc_tau_1", "_calc_tau_2"),
        preprocessing.TargetMinMaxScaler: ("_scale", "_unscale"),
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


def partial_of(function: Any, arguments: Sequence[Any]) -> functools.partial[Any]:
    """Give a function that a dictionary fills itself by, made with what it is called with.

    There are four: float of one number, which Exp3 and factorization machines weigh what is new
    by; the statistics of a rule's new feature, ``"var"``; the factors of a new feature, drawn by a
    Normal, and a dictionary of those by field or degree, ``"fields"``.

    Raises
    ------
    PolicyError
        If it is another.
    """
    match function, list(arguments):
        case type(), [number] if function is float and type(number) in (int, float):
            return functools.partial(float, number)
        case "var", []:
            return functools.partial(stats.Var)
        case optim.initializers.Normal(), [int() as shape] if type(shape) is int and shape > 0:
            return functools.partial(function, shape=shape)
        case "fields", [functools.partial(func=optim.initializers.Normal()) as one]:
            return functools.partial(collections.defaultdict, one)
    raise PolicyError(
        f"a snapshot cannot hold a partial {getattr(function, '__qualname__', function)} of "
        f"{list(arguments)}: River's models need none but float of one number, and what a rule or "
        "a factorization machine begins a feature by"
    )


def partial_parts(made: functools.partial[Any]) -> list[Any]:
    """Give what :func:`partial_of` makes a partial of.

    Raises
    ------
    PolicyError
        If it would make another.
    """
    function: Any = made.func
    if function in PARTIALS:
        function = PARTIALS[function]
    parts = [function, *made.args, *made.keywords.values()]
    again = partial_of(function, parts[1:])
    if (again.args, again.keywords) != (made.args, made.keywords):
        raise PolicyError(f"a snapshot cannot hold {made}: its arguments have other names")
    return parts


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
