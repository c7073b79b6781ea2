"""River's objects as plain data, and back: no pickle, and no class that was not foreseen.

An object graph becomes a list of nodes, each ``[kind, ...]``; a value in a node is a number, a
word, or ``[index]`` of another node. So what is shared stays shared, and nothing recurses.
"""

import collections
import functools
import types
from typing import Any

import numpy as np

from schemas.errors import PolicyError
from streams.core.policies.known_types import (
    RANDOM,
    RANDOM_STATE,
    RUST_STATEFUL,
    RUST_VECTOR,
    class_of,
    function_of,
    method_of,
    name_of,
    partial_parts,
    slots_of,
    vector_factory,
)

__all__ = ["DTYPES", "SCALARS", "as_plain"]

DTYPES = ("<f8", "<i8", "|b1")
SCALARS = (bool, int, float, str, type(None))
SEQUENCES: dict[type, str] = {list: "list", tuple: "tuple"}
SETS: dict[type, str] = {set: "set", frozenset: "frozenset"}
MAPS: dict[type, str] = {
    dict: "dict",
    collections.OrderedDict: "ordered",
    collections.Counter: "counter",
}
CALLED = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType)
OTHERS = (collections.deque, collections.defaultdict, functools.partial)


def as_plain(root: object) -> list[object]:
    """Give the nodes of everything that can be reached from an object, itself the first.

    Raises
    ------
    PolicyError
        If something is of a class that has no place in a snapshot.
    """
    return _Writer(root).nodes


class _Writer:
    def __init__(self, root: object) -> None:
        self._held: list[object] = []  # alive, so that ids stay unique
        self._index: dict[int, int] = {}
        self.nodes: list[object] = []
        self._ref(root, always=True)
        while len(self.nodes) < len(self._held):
            self.nodes.append(self._node(self._held[len(self.nodes)]))

    def _ref(self, value: object, *, always: bool = False) -> object:
        if type(value) in SCALARS and not always:
            return value
        if id(value) not in self._index:
            self._index[id(value)] = len(self._held)
            self._held.append(value)
        return [self._index[id(value)]]

    def _refs(self, values: Any) -> list[object]:
        return [self._ref(value) for value in values]

    def _pairs(self, mapping: Any) -> list[object]:
        return self._refs(part for pair in mapping.items() for part in pair)

    def _node(self, value: Any) -> list[object]:
        kind = type(value)
        if kind in SETS:
            return [SETS[kind], *_sorted(value)]
        if kind in (*SEQUENCES, *MAPS, *OTHERS):
            return self._container_node(value, kind)
        if isinstance(value, np.ndarray | np.generic):
            return _array_node(value)
        if isinstance(value, types.MethodType) and not isinstance(value.__self__, type):
            method_of(value.__self__, value.__name__)
            return ["method", self._ref(value.__self__), value.__name__]
        if isinstance(value, CALLED):
            return ["name", name_of(value, function_of)]
        return self._object_node(value, kind)

    def _container_node(self, value: Any, kind: type) -> list[object]:
        if kind in SEQUENCES:
            return [SEQUENCES[kind], *self._refs(value)]
        if kind in MAPS:
            return [MAPS[kind], *self._pairs(value)]
        if kind is collections.deque:
            return ["deque", value.maxlen, *self._refs(value)]
        if kind is functools.partial:
            return ["partial", *self._refs(partial_parts(value))]
        return ["default", self._ref(value.default_factory), *self._pairs(value)]

    def _object_node(self, value: Any, kind: type) -> list[object]:
        if kind is RANDOM:
            version, words, gauss = value.getstate()
            return ["random", version, np.array(words, dtype=np.int64), gauss]
        if kind is RANDOM_STATE:
            _, words, position, has_gauss, gauss = value.get_state()
            return ["random-state", words.astype(np.int64), position, has_gauss, gauss]
        if kind is RUST_VECTOR:
            data, factory, mask, _ = value.__reduce__()[1]
            if mask is not None:
                raise PolicyError("a snapshot holds no vector with a mask: choose another model")
            vector_factory(factory)
            return ["vector", self._ref(factory), self._ref(mask), *self._pairs(data)]
        if kind in RUST_STATEFUL:
            arguments = list(value.__getnewargs__())
            return ["rust", name_of(kind, class_of), arguments, bytes(value.__getstate__()).hex()]
        if isinstance(value, dict | list | tuple | set | frozenset | str | int | float):
            raise PolicyError(
                f"a snapshot cannot hold {kind.__module__}.{kind.__qualname__}, "
                "which adds to a container of Python's: choose another River model"
            )
        attributes = {name: getattr(value, name) for name in slots_of(kind) if hasattr(value, name)}
        attributes.update(getattr(value, "__dict__", {}))
        return ["object", name_of(kind, class_of), *self._pairs(attributes)]


def _sorted(items: Any) -> list[object]:
    if not all(type(item) in SCALARS for item in items):
        raise PolicyError(
            "a set of objects has no order to write it in: "
            "choose a River model that keeps none, or another of its parts"
        )
    return sorted(items, key=lambda item: (type(item).__name__, str(item)))


def _array_node(value: Any) -> list[object]:
    dtype = value.dtype.newbyteorder("<").str
    if dtype not in DTYPES:
        raise PolicyError(f"a snapshot holds arrays of {', '.join(DTYPES)}, got {dtype}")
    if isinstance(value, np.generic):
        return ["scalar", dtype, value.item()]
    # BLAS updates a Fortran array in place, and a copy of any other: the order is part of it
    order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
    return ["array", order, np.array(value, order="C")]
