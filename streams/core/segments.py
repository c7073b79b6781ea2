"""The expression that says whom a campaign is for.

::

    plan in ("free", "plus") and age >= 30 and not unsubscribed("email")
        and events("app_open") >= 3 and days_since("purchase") < 30

The syntax is Python's, the language is not: a bare name is an attribute of the profile, and
besides ``and``, ``or``, ``not``, comparisons (chained too), ``in`` and literals there are only
these functions, each of one quoted name:

===========================  ==============================================================
``events("type")``           how many events of this type the profile counted
``days_since("type")``       days since the last one, None if there was none
``reachable("channel")``     whether the user can be reached there
``unsubscribed("channel")``  whether the user asked not to be
``attribute("a name")``      an attribute whose name is no Python name
``is_set("name")``           whether the attribute has a value
===========================  ==============================================================

A profile never makes an expression fail. A missing attribute is None. A comparison with a
missing value, or of two types (text, number, yes/no, list), is False, whichever way it is put:
``country != "DE"`` is False without a country, ``not country == "DE"`` is True. ``== None`` and
``!= None`` ask whether a value is there. ``"sport" in interests`` looks into a list attribute.
"""

import ast
import difflib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

from schemas.errors import ExpressionError
from streams.core import conditions
from streams.core.conditions import AttributeValue, ProfileView, Test, Value

__all__ = ["AttributeValue", "ProfileView", "Segment", "compile_segment"]

MAX_LENGTH = 4_000  # characters
MAX_DEPTH = 32  # conditions within conditions
_KNOWN = ", ".join(conditions.FUNCTIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A compiled expression: pure, and fast enough to ask for every user of a wave.

    Attributes
    ----------
    attributes
        Those of a profile that it asks for.
    """

    text: str
    test: Test
    attributes: frozenset[str]

    def matches(self, profile: ProfileView, now_ms: int) -> bool:
        """Whether the profile belongs to the segment at this time; never raises."""
        return self.test(profile, now_ms)


def compile_segment(text: str) -> Segment:
    """Compile an expression to closures; nothing of it is ever executed as Python.

    Raises
    ------
    ExpressionError
        The text is too long or too deep, is no expression, or uses what the language lacks.
        The message gives the column (from 1, over the whole text), what stands there and what
        may stand there.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(
            f"a segment may have {MAX_LENGTH} characters, this one has {len(text)}: "
            "list many users in the campaign's audience, not in its expression"
        )
    if not text.strip():
        raise ExpressionError("the segment is empty: write True to mean everyone")
    compiler = _Compiler(text)
    test = compiler.compile()
    return Segment(text=text, test=test, attributes=frozenset(compiler.attributes))


# what people write who think in JSON or SQL
_FOREIGN = {"true": "True", "false": "False", "null": "None", "none": "None"}


class _Compiler:
    def __init__(self, text: str) -> None:
        flat = text.replace("\r", " ").replace("\n", " ")  # as long as before: columns stay
        self.source = flat.strip()
        self.indent = len(flat) - len(flat.lstrip())
        self.attributes: set[str] = set()

    def compile(self) -> Test:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # "\d" and `30and` are errors here
                tree = ast.parse(self.source, mode="eval")
        except SyntaxError as error:
            # an offset of 0 or none means the end
            column = self.indent + (error.offset or len(self.source) + 1)
            raise ExpressionError(
                f"column {column}: {error.msg}: write conditions joined by and, or, not"
            ) from None
        except (ValueError, RecursionError, MemoryError, Warning) as error:
            raise ExpressionError(
                f"the segment cannot be read ({str(error) or 'nested too deeply'}): "
                "remove control characters and needless brackets"
            ) from None
        tail = self.source.encode()[tree.body.end_col_offset :].decode()
        if "#" in tail:
            column = self.indent + len(self.source) - len(tail) + tail.index("#") + 1
            raise ExpressionError(
                f"column {column}: a comment would hide what follows: put '#' in quotes, or "
                "remove the comment"
            )
        return self.condition(tree.body, 0)

    def condition(self, node: ast.expr, depth: int) -> Test:
        if depth > MAX_DEPTH:
            raise self.refused(
                node,
                f"more than {MAX_DEPTH} conditions within each other",
                "join conditions with and / or on one level",
            )
        match node:
            case ast.BoolOp(op=op, values=values):
                tests = [self.condition(value, depth + 1) for value in values]
                return (
                    conditions.all_of(tests)
                    if isinstance(op, ast.And)
                    else conditions.any_of(tests)
                )
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return conditions.negated(self.condition(operand, depth + 1))
            case ast.Compare():
                return self.comparison(node)
            case ast.Constant(value=bool()):
                return conditions.truth(self.value(node))
            case ast.Name() | ast.Call():
                return conditions.truth(self.value(node))
            case _:
                raise self.refused(
                    node,
                    f"{_described(node)} where a condition is expected",
                    "compare it with something; for several values write: name in (..., ...)",
                )

    def comparison(self, node: ast.Compare) -> Test:
        operands = [node.left, *node.comparators]
        tests = [
            self.link(left, op, right)
            for left, op, right in zip(operands[:-1], node.ops, operands[1:], strict=True)
        ]
        return tests[0] if len(tests) == 1 else conditions.all_of(tests)

    def link(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Test:
        if isinstance(op, ast.In | ast.NotIn):
            return self.membership(left, right, expected=isinstance(op, ast.In))
        if isinstance(op, ast.Is | ast.IsNot):
            raise self.refused(right, "a comparison with 'is'", "== or !=")
        for none, other in ((right, left), (left, right)):
            if isinstance(none, ast.Constant) and none.value is None:
                if type(op) not in conditions.EQUALITY:
                    raise self.refused(none, "None in a comparison of size", "== None or != None")
                return conditions.presence(self.value(other), isinstance(op, ast.NotEq))
        a, b = self.value(left), self.value(right)
        if type(op) in conditions.EQUALITY:
            return conditions.comparison(a, b, conditions.EQUALITY[type(op)], conditions.KINDS)
        return conditions.comparison(a, b, conditions.ORDER[type(op)], conditions.ORDERED)

    def membership(self, left: ast.expr, right: ast.expr, expected: bool) -> Test:
        value = self.value(left)
        match right:
            case ast.Tuple(elts=nodes) | ast.List(elts=nodes):
                return conditions.membership(value, tuple(map(self.element, nodes)), expected)
            case ast.Name() | ast.Call():
                return conditions.inclusion(value, self.value(right), expected)
            case _:
                raise self.refused(
                    right,
                    f"{_described(right)} after 'in'",
                    'a list like ("free", "plus") - one element is ("free",) - or an attribute',
                )

    def element(self, node: ast.expr) -> AttributeValue:
        value = self.literal(node)
        if value is None:
            raise self.refused(
                node, f"{_described(node)} in a list", "texts, numbers, True and False"
            )
        return value

    def literal(self, node: ast.expr) -> AttributeValue:
        """Value of a literal; None for None and for everything that is no literal."""
        match node:
            case ast.Constant(value=bool() | int() | float() | str() as value):
                return value
            case ast.UnaryOp(
                op=ast.USub() | ast.UAdd() as sign, operand=ast.Constant(value=number)
            ) if type(number) in (int, float):
                assert isinstance(number, int | float)
                return -number if isinstance(sign, ast.USub) else number
            case _:
                return None

    def value(self, node: ast.expr) -> Value:
        literal = self.literal(node)
        if literal is not None:
            return conditions.constant(literal)
        match node:
            case ast.Constant(value=None):
                return conditions.constant(None)
            case ast.Name(id=name) if name in _FOREIGN:
                raise self.refused(node, f"'{name}'", f'{_FOREIGN[name]}, or attribute("{name}")')
            case ast.Name(id=name) if name in conditions.FUNCTIONS:
                raise self.refused(
                    node,
                    f"the function '{name}' without a name in brackets",
                    f'{name}("..."), or attribute("{name}")',
                )
            case ast.Name(id=name):
                self.attributes.add(name)
                return conditions.attribute(name)
            case ast.Call():
                return self.call(node)
            case _:
                raise self.refused(
                    node,
                    _described(node),
                    f"an attribute, a text, a number, True, False, None, or one of {_KNOWN}",
                )

    def call(self, node: ast.Call) -> Value:
        if not isinstance(node.func, ast.Name):
            raise self.refused(node, f"a call of {_described(node.func)}", f"one of {_KNOWN}")
        name = node.func.id
        if name not in conditions.FUNCTIONS:
            near = difflib.get_close_matches(name, conditions.FUNCTIONS, n=1)
            hint = f"{near[0]} (the nearest); all: {_KNOWN}" if near else f"one of {_KNOWN}"
            raise self.refused(node, f"the unknown function '{name}'", hint)
        match node:
            case ast.Call(args=[ast.Constant(value=str(argument))], keywords=[]) if argument:
                if name in conditions.OF_ATTRIBUTES:
                    self.attributes.add(argument)
                return conditions.FUNCTIONS[name](argument)
            case _:
                raise self.refused(
                    node, f"{name} with other than one quoted name", f'{name}("...")'
                )

    def refused(self, node: ast.expr, found: str, allowed: str) -> ExpressionError:
        # ast counts bytes of UTF-8, people count characters
        before = self.source.encode()[: node.col_offset].decode()
        column = self.indent + len(before) + 1
        return ExpressionError(f"column {column}: found {found}; allowed: {allowed}")


_DESCRIPTIONS: Mapping[type[ast.AST], str] = {
    ast.Attribute: "a dot (access to a part)",
    ast.BinOp: "arithmetic",
    ast.BoolOp: "a condition where a value is expected",
    ast.Call: "a call",
    ast.Compare: "a condition where a value is expected",
    ast.Dict: "a mapping",
    ast.DictComp: "a comprehension",
    ast.GeneratorExp: "a comprehension",
    ast.IfExp: "an if",
    ast.JoinedStr: "a text with insertions",
    ast.Lambda: "a lambda",
    ast.List: "a list",
    ast.ListComp: "a comprehension",
    ast.NamedExpr: "an assignment",
    ast.Set: "a set in braces",
    ast.SetComp: "a comprehension",
    ast.Starred: "a star",
    ast.Subscript: "an index",
    ast.Tuple: "a list",
}


def _described(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=int() | float() | complex() as value) if type(value) is not bool:
            return "a number"  # Python may refuse to print a long one
        case ast.Constant(value=value):
            return f"the literal {value!r:.60}"
        case ast.Name(id=name):
            return f"the name '{name}'"
        case ast.UnaryOp(op=ast.Not()):
            return "a condition where a value is expected"
        case ast.UnaryOp():
            return "arithmetic"
        case _:
            return _DESCRIPTIONS.get(type(node), f"'{type(node).__name__}'")
