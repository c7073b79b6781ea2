"""What River's regressors are made of, by name, and which regressors there are."""

import inspect
from collections.abc import Iterable, Mapping
from types import MappingProxyType, ModuleType

from river import (
    base,
    dummy,
    ensemble,
    facto,
    forest,
    linear_model,
    neighbors,
    optim,
    preprocessing,
    rules,
    stats,
    tree,
)

from streams.core.policies.river_rules import AMRules

__all__ = ["LEFT_OUT", "LOSSES", "OPTIMIZERS", "PARTS", "REGRESSORS", "wanted_by"]

MODULES = (
    *(linear_model, tree, neighbors, ensemble, forest),
    *(rules, facto, dummy, preprocessing),
)
TARGETS = "it learns several targets, and a reward is one"
RESAMPLED = "it learns some rewards more often than they come, and so expects others"
CHOOSES = "it chooses among models by a metric: ensemble.EWARegressor weighs models instead"
LEFT_OUT: Mapping[str, str] = MappingProxyType(
    {
        "compat.SKL2RiverRegressor": "it is another library's model, which has no snapshot here",
        "compose.TargetTransformRegressor": "it asks for two functions",
        "conf.RegressionJackknife": "it adds intervals to a model, and only the mean is used",
        "imblearn.ChebyshevOverSampler": RESAMPLED,
        "imblearn.ChebyshevUnderSampler": RESAMPLED,
        "imblearn.HardSamplingRegressor": RESAMPLED,
        "model_selection.BanditRegressor": CHOOSES,
        "model_selection.GreedyRegressor": CHOOSES,
        "model_selection.SuccessiveHalvingRegressor": CHOOSES,
        "multioutput.PerOutputRegressor": TARGETS,
        "multioutput.RegressorChain": TARGETS,
        "preprocessing.PredClipper": "its bounds would be those of standardised rewards",
        "tree.ISOUPTreeRegressor": TARGETS,
    }
)


def _discovered(
    modules: Iterable[ModuleType], kind: type, left_out: Iterable[str] = ()
) -> dict[str, type]:
    """Find every class of a kind that River offers in these modules and that can be made."""
    found = {}
    for module in modules:
        for name in module.__all__:
            path = f"{module.__name__.removeprefix('river.')}.{name}"
            one = getattr(module, name)
            if (
                inspect.isclass(one)
                and issubclass(one, kind)
                and not inspect.isabstract(one)
                and path not in left_out
            ):
                found[path] = one
    return found


REGRESSORS: Mapping[str, type[base.Regressor]] = MappingProxyType(
    _discovered(MODULES, base.Regressor, LEFT_OUT) | {"rules.AMRules": AMRules}
)
# an Averager's means are read by none of River's regressors, which keep the weights themselves
OPTIMIZERS = _discovered([optim], optim.base.Optimizer, ["optim.Averager", "optim.Optimizer"])
LOSSES = _discovered([optim.losses], optim.losses.RegressionLoss)
ENGINES: dict[str, type] = {"neighbors.LazySearch": neighbors.LazySearch}
STATISTICS: dict[str, type] = {"stats.EWMean": stats.EWMean, "stats.Mean": stats.Mean}
PARTS: Mapping[str, type] = MappingProxyType(
    {**REGRESSORS, **OPTIMIZERS, **LOSSES, **ENGINES, **STATISTICS}
)
# by the last word of a parameter's name, as in weight_optimizer
WANTED: Mapping[str, Mapping[str, type]] = MappingProxyType(
    {
        "engine": ENGINES,
        "loss": LOSSES,
        "model": REGRESSORS,
        "models": REGRESSORS,
        "optimizer": OPTIMIZERS,
        "regressor": REGRESSORS,
        "statistic": STATISTICS,
    }
)


def wanted_by(parameter: str) -> Mapping[str, type]:
    """Give the parts that a parameter takes: none where it takes numbers and words.

    >>> sorted(wanted_by("statistic"))
    ['stats.EWMean', 'stats.Mean']
    >>> wanted_by("leaf_prediction")
    {}
    """
    return WANTED.get(parameter.rpartition("_")[2], {})
