"""River's regressors by name, made from the words of a campaign's definition."""

import ast
import inspect
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from river import base, compose, neighbors, preprocessing

from schemas.errors import PolicyError
from streams.core.policies.parameters import nearest
from streams.core.policies.plain_objects import as_plain
from streams.core.policies.river_parts import LEFT_OUT, PARTS, REGRESSORS, wanted_by

__all__ = ["FAILURES", "REGRESSORS", "check_regressor", "make_regressor"]

# what River raises where a parameter or a number does not suit it
FAILURES = (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError)
# a part with parameters of its own, and a word that can only be meant for a part
CALL = re.compile(r"[\w.]+\(.*\)")
PATH = re.compile(r"(river\.)?[a-z_]+(\.[a-z_]+)*\.[A-Z]\w*")
MOST_PARTS = 20
EXAMPLE = "optim.Adam(lr=0.01)"
JSON_WORDS = {"true": True, "false": False, "null": None}
# of an option that takes no part by its name
NO_PART = "of parts, regressors, optimizers, losses and statistics have names here"


def make_regressor(
    path: str, options: Sequence[str], *, standardise: bool, seed: int
) -> base.Regressor:
    """Make a regressor that has learned nothing yet.

    Parameters
    ----------
    path
        One of :data:`REGRESSORS`, with or without ``river.`` before it.
    options
        Its parameters as ``name=value``, the value in JSON. Where one takes another regressor, an
        optimizer, a loss or a statistic, it is given by its name, with parameters of its own if
        need be: ``optimizer=optim.Adam(lr=0.01)``. Where nearest neighbours are given no engine,
        it is LazySearch: River's default keeps a graph that has no order to write it in.
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
    if name in LEFT_OUT:
        raise PolicyError(f"River's {name} cannot be a reward model: {LEFT_OUT[name]}")
    if name not in REGRESSORS:
        raise PolicyError(f"there is no River regressor {path!r}: {nearest(name, REGRESSORS)}")
    known = _parameters(REGRESSORS[name])
    given: dict[str, Any] = {}
    for option in options:
        word, equals, value = option.partition("=")
        if not equals:
            raise PolicyError(f"an option of {name} is written name=value, got {option!r}")
        if word not in known:
            raise PolicyError(f"River's {name} has no parameter {word!r}: {nearest(word, known)}")
        try:
            given[word] = json.loads(value)
        except (json.JSONDecodeError, RecursionError):
            given[word] = value  # a word without its quotes
    return _pipeline(_made(name, given, seed), standardise)


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
            trial.learn_one({"x0": reward, "x1": 1.0 - reward}, reward)
            trial.predict_one({"x0": 0.5, "x1": 0.5})
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


def _parameters(kind: type) -> list[str]:
    return [word for word in inspect.signature(kind).parameters if word != "kwargs"]


def _made(name: str, given: Mapping[str, Any], seed: int) -> Any:
    """Make a part, and what it is given by name."""
    known = _parameters(PARTS[name])
    own = {word: _value(name, word, value, seed) for word, value in given.items()}
    if "seed" in known:
        own.setdefault("seed", seed)
    if name == "neighbors.KNNRegressor":
        own.setdefault("engine", neighbors.LazySearch())
    try:
        if name.startswith("facto."):
            # River asks a prediction for its item(): without products of features, only this has
            own["intercept"] = np.float64(own.get("intercept", 0.0))
        return PARTS[name](**own)
    except FAILURES as error:
        raise PolicyError(f"River's {name} cannot be made with {dict(given)}: {error}") from error


def _value(name: str, word: str, value: Any, seed: int) -> Any:
    if isinstance(value, list):
        return [_item(name, word, item, seed) for item in value]
    return _item(name, word, value, seed)


def _item(name: str, word: str, value: Any, seed: int) -> Any:
    if isinstance(value, dict | list):
        raise PolicyError(f"an option is a number, a word or a list of them, got {value!r}")
    if not isinstance(value, str):
        return value
    wanted = wanted_by(word)
    path, given = _call(value) if CALL.fullmatch(value) else (value, {})
    part = path.removeprefix("river.")
    if part in wanted:
        return _made(part, given, seed)
    if wanted or given or PATH.fullmatch(value):
        there_is = f"give one of {', '.join(sorted(wanted))}" if wanted else NO_PART
        raise PolicyError(f"River's {name} cannot be made with {word}={value}: {there_is}")
    return value


def _call(text: str) -> tuple[str, dict[str, Any]]:
    """Read a part with parameters of its own: ``optim.Adam(lr=0.01)``.

    >>> _call("optim.Adam(lr=0.01, eps=-1)")
    ('optim.Adam', {'lr': 0.01, 'eps': -1})
    """
    if text.count("(") > MOST_PARTS:
        raise PolicyError(f"more than {MOST_PARTS} parts in one: {text[:80]!r}...")
    try:
        call: Any = ast.parse(text, mode="eval").body
        given = {keyword.arg: _argument(keyword.value) for keyword in call.keywords}
        path = ast.unparse(call.func)
    except (SyntaxError, AttributeError, ValueError, RecursionError, MemoryError) as error:
        raise PolicyError(f"{text!r} cannot be read ({error}): write {EXAMPLE}") from error
    if call.args or None in given:
        raise PolicyError(f"only name=value stands between the brackets of {text!r}: {EXAMPLE}")
    return path, given


def _argument(node: ast.expr) -> Any:
    """Give a number or word, and a part as the word that it is written by."""
    if isinstance(node, ast.List):
        return [_argument(item) for item in node.elts]
    if isinstance(node, ast.Name) and node.id in JSON_WORDS:
        return JSON_WORDS[node.id]
    if isinstance(node, ast.Call | ast.Attribute | ast.Name):
        return ast.unparse(node)
    return ast.literal_eval(node)
