"""Plain data back to River's objects."""

import collections
import functools
import inspect
import types
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from river import optim

from schemas.errors import PolicyError
from streams.core.policies.known_types import (
    RANDOM,
    RANDOM_STATE,
    RUST_STATEFUL,
    RUST_VECTOR,
    class_of,
    function_of,
    method_of,
    partial_of,
    slots_of,
    vector_factory,
)
from streams.core.policies.plain_objects import DTYPES, SCALARS

__all__ = ["from_plain"]

FAILURES = (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError)
# what a dictionary may fill itself by: of these, the nodes can only make what is known
FACTORIES = (type, functools.partial, types.MethodType, types.NoneType)
WORDS = 624  # of a Mersenne twister's state
# what is empty at first and filled when all are there, so that circles close
EMPTY: dict[str, Any] = {
    "list": list,
    "set": set,
    "dict": dict,
    "ordered": collections.OrderedDict,
    "counter": collections.Counter,
    "default": collections.defaultdict,
}


def from_plain(nodes: Sequence[Any]) -> Any:
    """Make the object whose nodes :func:`~streams.core.policies.plain_objects.as_plain` gave.

    No constructor of River's runs but those of its Rust classes: attributes are set as they were.
    Nothing is looked up by a name that the nodes give but in the tables of
    :mod:`~streams.core.policies.known_types`.

    Raises
    ------
    PolicyError
        If a node names a class, a function or a method that has no place in a snapshot, or the
        nodes do not hang together.
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
                self.objects[index] = object.__new__(class_of(node[1]))
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
                made = method_of(self._value(owner), name)
            case ["partial", function, *arguments]:
                made = partial_of(self._value(function), [self._value(one) for one in arguments])
            case ["vector", factory, None, *items]:
                made = RUST_VECTOR(dict(self._pairs(items)), vector_factory(self._value(factory)))
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
                made.default_factory = _factory(self._value(factory))
                self._put(made, items)
            case [("dict" | "ordered" | "counter"), *items]:
                self._put(made, items)

    def _put(self, made: Any, items: Sequence[Any]) -> None:
        for key, value in self._pairs(items):
            if type(key) not in SCALARS:
                raise PolicyError(f"a snapshot holds no dictionary by {type(key).__name__}")
            made[key] = value

    def _set(self, made: Any, items: Sequence[Any]) -> None:
        kind: Any = type(made)
        slots = slots_of(kind)
        for name, value in self._pairs(items):
            if name in slots:
                object.__setattr__(made, name, value)
            elif not _is_kept(kind, name):
                raise PolicyError(
                    f"a snapshot cannot set {name} of {kind.__module__}.{kind.__qualname__}: "
                    "it is no attribute that its objects keep"
                )
            else:
                vars(made)[name] = value

    def _pairs(self, items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        for key, value in zip(items[::2], items[1::2], strict=True):
            yield self._value(key), self._value(value)


@functools.lru_cache(maxsize=4096)
def _is_kept(kind: type, name: str) -> bool:
    """Whether objects may have an attribute that their class does not define otherwise."""
    defined = inspect.getattr_static(kind, name, None)
    return not name.startswith("__") and not hasattr(defined, "__get__")


def _factory(made: Any) -> Any:
    if not isinstance(made, FACTORIES) and type(made) is not optim.initializers.Zeros:
        raise PolicyError(
            f"a snapshot holds no dictionary that fills itself by a {type(made).__name__}"
        )
    return made


def _leaf(node: Sequence[Any]) -> Any:
    made: Any
    match node:
        case ["scalar", str(dtype), bool() | int() | float() as value] if dtype in DTYPES:
            made = np.dtype(dtype).type(value)
        case ["array", order, np.ndarray() as array]:
            made = np.array(array, order="F" if order == "F" else "C")
        case ["name", str(name)]:
            made = function_of(name)
        case ["random", version, words, gauss]:
            made = RANDOM()
            made.setstate((version, tuple(words.tolist()), gauss))
        case ["random-state", words, int(position), int(has_gauss), float(gauss)] if (
            words.shape == (WORDS,) and 0 <= position <= WORDS  # numpy checks neither
        ):
            made = RANDOM_STATE(0)
            made.set_state(("MT19937", words.astype(np.uint32), position, has_gauss, gauss))
        case ["rust", str(name), list(arguments), str(data)] if class_of(name) in RUST_STATEFUL:
            made = class_of(name)(*arguments)
            _take_up(made, bytes.fromhex(data))
        case _:
            raise ValueError(f"a node of kind {node[0]!r}")
    return made


def _take_up(made: Any, data: bytes) -> None:
    try:
        made.__setstate__(data)
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # Rust's, which is no Exception
            raise
        raise ValueError(f"{len(data)} bytes of a {type(made).__name__}") from error
