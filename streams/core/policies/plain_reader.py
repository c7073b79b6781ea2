"""Plain data back to River's objects."""

import collections
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from schemas.errors import PolicyError
from streams.core.policies.known_types import RANDOM, RUST_STATEFUL, RUST_VECTOR, known, slots_of

__all__ = ["from_plain"]

FAILURES = (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError)
# what is empty at first and filled when all are there, so that circles close
EMPTY: dict[str, Any] = {
    "list": list,
    "set": set,
    "dict": dict,
    "ordered": collections.OrderedDict,
    "counter": collections.Counter,
    "default": collections.defaultdict,
    "vector": RUST_VECTOR,
}


def from_plain(nodes: Sequence[Any]) -> Any:
    """Make the object whose nodes :func:`~streams.core.policies.plain_objects.as_plain` gave.

    No constructor of River's runs but those of its Rust classes: attributes are set as they were.

    Raises
    ------
    PolicyError
        If a node names a class that has no place in a snapshot, or the nodes do not hang together.
    """
    try:
        return _Reader(nodes).objects[0]
    except (*FAILURES, RecursionError) as error:
        raise PolicyError(
            f"a River model's state lacks or garbles {error}: take another snapshot"
        ) from error


class _Reader:
    def __init__(self, nodes: Sequence[Any]) -> None:
        self._nodes = nodes
        self.objects: dict[int, Any] = {}
        for index, node in enumerate(nodes):
            if node[0] in EMPTY:
                self.objects[index] = EMPTY[node[0]]()
            elif node[0] == "deque":
                self.objects[index] = collections.deque(maxlen=node[1])
            elif node[0] == "object":
                kind = known(node[1])
                if not isinstance(kind, type):
                    raise PolicyError(f"{node[1]} is no class: take another snapshot")
                self.objects[index] = object.__new__(kind)
        for index in range(len(nodes)):
            self._made(index)
        for index, node in enumerate(nodes):
            self._fill(self.objects[index], node)

    def _value(self, value: Any) -> Any:
        return self._made(value[0]) if isinstance(value, list) else value

    def _made(self, index: int) -> Any:
        if index not in self.objects:
            self.objects[index] = self._complete(self._nodes[index])
        return self.objects[index]

    def _complete(self, node: Sequence[Any]) -> Any:
        made: Any
        match node:
            case ["tuple", *items]:
                made = tuple(self._value(item) for item in items)
            case ["frozenset", *items]:
                made = frozenset(items)
            case ["method", owner, str(name)]:
                made = getattr(self._value(owner), name)
            case ["partial", *parts]:
                function, *arguments = (self._value(part) for part in parts)
                made = functools.partial(function, *arguments)
            case _:
                made = _leaf(node)
        return made

    def _fill(self, made: Any, node: Sequence[Any]) -> None:
        match node:
            case ["list", *items] | ["deque", _, *items]:
                made.extend(self._value(item) for item in items)
            case ["set", *items]:
                made.update(items)
            case ["object", _, *items]:
                self._set(made, items)
            case ["default", factory, *items]:
                made.default_factory = self._value(factory)
                self._put(made, items)
            case ["vector", factory, mask, *items]:
                if factory is not None or mask is not None:
                    raise PolicyError("a snapshot holds no vector with a factory or a mask")
                self._put(made, items)
            case [("dict" | "ordered" | "counter"), *items]:
                self._put(made, items)

    def _put(self, made: Any, items: Sequence[Any]) -> None:
        for key, value in self._pairs(items):
            made[key] = value

    def _set(self, made: Any, items: Sequence[Any]) -> None:
        slots = slots_of(type(made))
        for name, value in self._pairs(items):
            if name in slots:
                object.__setattr__(made, name, value)
            else:
                vars(made)[name] = value

    def _pairs(self, items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        for key, value in zip(items[::2], items[1::2], strict=True):
            yield self._value(key), self._value(value)


def _leaf(node: Sequence[Any]) -> Any:
    made: Any
    match node:
        case ["scalar", str(dtype), value]:
            made = np.dtype(dtype).type(value)
        case ["array", order, np.ndarray() as array]:
            made = np.array(array, order="F" if order == "F" else "C")
        case ["name", str(name)]:
            made = known(name)
        case ["random", version, words, gauss]:
            made = RANDOM()
            made.setstate((version, tuple(words.tolist()), gauss))
        case ["rust", str(name), list(arguments), str(data)] if known(name) in RUST_STATEFUL:
            made = known(name)(*arguments)
            made.__setstate__(bytes.fromhex(data))
        case _:
            raise ValueError(f"a node of kind {node[0]!r}")
    return made
