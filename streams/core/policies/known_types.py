# ruff: noqa: SLF001  River's Rust classes are found where its own objects hold them
"""The classes and functions that a snapshot of a River model may name."""

import builtins
import importlib
import statistics
from typing import Any

from river import drift, proba, stats, utils

from schemas.errors import PolicyError

__all__ = [
    "RANDOM",
    "RUST_STATEFUL",
    "RUST_VECTOR",
    "known",
    "name_of",
    "slots_of",
]

PACKAGES = (
    "bandit",
    "compose",
    "drift",
    "ensemble",
    "forest",
    "linear_model",
    "metrics",
    "neighbors",
    "optim",
    "preprocessing",
    "proba",
    "rules",
    "stats",
    "tree",
    "utils",
)
BUILTINS = ("bool", "dict", "float", "int", "list", "set")
# River's Rust classes: one is a dictionary, the other gives and takes its state as bytes
RUST_VECTOR: type = utils.VectorDict
RUST_STATEFUL: tuple[type, ...] = (
    type(drift.ADWIN()._helper),
    type(stats.EWMean()._ewmean),
)
# the generator that River's objects hold; what is drawn here is drawn from numpy's
RANDOM: type = type(proba.Beta()._rng)
RUST_FUNCTIONS = ("euclidean_distance_tuple",)


def name_of(value: Any) -> str:
    """Give the name under which :func:`known` finds a class or function.

    Raises
    ------
    PolicyError
        If it is none that a snapshot may name.
    """
    name = f"{value.__module__}:{value.__qualname__}"
    if known(name) is not value:
        raise PolicyError(f"a snapshot cannot name {name}: it is another object than it says")
    return name


def known(name: str) -> Any:
    """Give the class or function of a name, ``module:qualified.name``.

    Raises
    ------
    PolicyError
        If a snapshot may not name it, or it does not exist.
    """
    module, _, path = name.partition(":")
    if module == "builtins" and path in BUILTINS:
        return getattr(builtins, path)
    if name == "statistics:NormalDist":
        return statistics.NormalDist
    if module == "river._river_rust.vectordict" and path in RUST_FUNCTIONS:
        return getattr(importlib.import_module("river.utils.vectordict"), path)
    for rust in (RUST_VECTOR, *RUST_STATEFUL):
        if name == f"{rust.__module__}:{rust.__qualname__}":
            return rust
    parts = module.split(".")
    if len(parts) < 2 or parts[0] != "river" or parts[1] not in PACKAGES:
        raise PolicyError(
            f"a snapshot cannot hold {name.replace(':', '.')}: only River's models, their parts "
            "and Python's containers have a place in one"
        )
    return _found(module, path)


def _found(module: str, path: str) -> Any:
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = vars(found)[part]
            found = found.__func__ if isinstance(found, staticmethod) else found
    except (ImportError, KeyError, TypeError) as error:
        raise PolicyError(
            f"River has no {module}.{path}: run the version that wrote the snapshot"
        ) from error
    if f"{found.__module__}:{found.__qualname__}" != f"{module}:{path}":
        raise PolicyError(f"{module}.{path} is not where it was defined: name it by that")
    return found


def slots_of(kind: type) -> list[str]:
    """Give the attributes that a class and its bases keep in slots."""
    slots: list[str] = []
    for base in reversed(kind.__mro__):
        own = vars(base).get("__slots__", ())
        slots += [own] if isinstance(own, str) else list(own)
    return [name for name in slots if name not in {"__dict__", "__weakref__"}]
