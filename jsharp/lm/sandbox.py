"""A jinja environment for the templates of strangers: no escape, and bounded work.

The language is that of chat templates in transformers 5 (utils/chat_template_utils.py):
an immutable sandbox with trimmed blocks, loop controls, {% generation %}, a plain
tojson, raise_exception and strftime_now. The sandbox of jinja2 keeps a template from
Python's internals, not from working for ever: here every iteration, every call and
every character of a string that is built is charged to a budget, no text or list grows
beyond `LARGEST`, and what is cheap to write and slow to run (x in y) meets a clock.
"""

import datetime
import functools
import json
import re
import time
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

STEPS = 2 * 10**5  # iterations and calls of one rendering
SECONDS = 3.0  # of this thread's processor time in one rendering
_STEP = 1000  # characters that cost as much as one of these
LARGEST = 4 * 10**6  # characters of one string, elements of one list
_PRODUCT = 2 * 10**8  # of the lengths of two operands that multiply
_BITS = 4096  # of one integer
# What builds a string about as long as the product of its operands.
_MULTIPLY = frozenset(
    "* % replace join center ljust rjust zfill expandtabs format translate indent "
    "wordwrap batch slice".split()
)
_CHEAP = frozenset("length count first last default d".split())  # whatever the operand
_COMPUTED = re.compile(r"%[-+ #0-9.]*\*|\{[^{}]*:[^{}]*\{")  # %*d, {:{width}}


class WorkError(TemplateError):
    """A template that asks for more work than any prompt needs."""


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment of one template; `start` opens the budget of a rendering."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, loopcontrols],
            finalize=self._written,
        )
        self.start()
        self.filters["tojson"] = _tojson
        self.filters |= {n: self._guarded(n, f) for n, f in self.filters.items()}
        del self.globals["lipsum"]  # random text, of any length
        self.globals |= {
            "raise_exception": _raise,
            "strftime_now": _strftime_now,
            "dict": _Dict(),
            "namespace": _Names,
        }

    def start(self) -> None:
        self.left = STEPS * _STEP
        self.deadline = time.thread_time() + SECONDS

    def tick(self) -> bool:
        """What every iteration calls, so that it is charged."""
        return True

    def concatenate(self, *parts: Any) -> str:
        """What every a ~ b calls, so that it is charged."""
        return self.concat(map(str, parts))

    def concat(self, parts: Iterable[str]) -> str:
        parts = list(parts)
        length = _check_size(sum(map(len, parts)))
        self._charge(length)
        return "".join(parts)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(getattr(__obj, "__wrapped__", __obj), "__self__", None)
        named = [v for k, v in kwargs.items() if not k.startswith("_")]
        operands = [*([owner] if isinstance(owner, str) else []), *args, *named]
        apply = functools.partial(super().call, __context, __obj, *args, **kwargs)
        return __self._bounded(getattr(__obj, "__name__", ""), operands, apply)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        apply = functools.partial(super().call_binop, context, operator, left, right)
        if not (isinstance(left, int) and isinstance(right, int)):
            return self._bounded(operator, [left, right], apply)
        bits = left.bit_length(), right.bit_length()
        if max(bits) > _BITS or (operator == "**" and bits[0] * right > _BITS):
            raise WorkError("too much work: an integer is too large")
        return apply()

    def unsafe_undefined(self, obj: Any, attribute: str) -> NoReturn:
        """Stop where an escape is attempted; jinja2 waits until it is used."""
        raise SecurityError(f"{attribute!r} of a {type(obj).__name__} is out of reach")

    def _bounded(self, name: str, operands: list[Any], apply: Callable[[], Any]) -> Any:
        """Apply an operation whose operands and result are not too large."""
        deep = [] if name in _CHEAP else operands
        sizes = [_check_size(_size(value)) for value in deep]
        if name in _MULTIPLY:
            first, second = sorted([*sizes, *_widths(name, operands), 1, 1])[-2:]
            if first * second > _PRODUCT:
                raise WorkError(f"too much work: a text longer than {LARGEST}")
        self._charge(_STEP)
        result = apply()
        self._charge(len(result) if isinstance(result, str) else 0)
        return result

    def _guarded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            apply = functools.partial(function, *args, **kwargs)
            return self._bounded(name, [*args, *kwargs.values()], apply)

        return guarded

    def _charge(self, characters: int) -> None:
        self.left -= characters
        if self.left < 0:
            raise WorkError(f"too much work: more than {STEPS} steps")
        if time.thread_time() > self.deadline:
            raise WorkError(f"too much work: more than {SECONDS:g} seconds")

    def _written(self, value: Any) -> Any:
        _check_size(_size(value))
        return value

    def _parse(self, source: str, name: Any, filename: Any) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        return _Charged().visit(tree).set_environment(self)


class _Charged(NodeTransformer):
    """The syntax tree with a call in every loop, and in place of every a ~ b."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802, jinja2's name
        self.generic_visit(node)
        tick = _call("tick", [], node)
        node.body.insert(0, nodes.ExprStmt(tick, lineno=node.lineno))
        if node.test is not None:
            test = _call("tick", [], node)
            node.test = nodes.And(test, node.test, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _call("concatenate", node.nodes, node)


class _Generation(Extension):
    """{% generation %} ... {% endgeneration %} marks an answer; it renders as is."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_same"), [], [], body).set_lineno(line)

    def _same(self, caller: Callable[[], str]) -> str:
        return caller()


class _Dict:
    """`dict` for templates: its calls, without the attributes of the type."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Names(Namespace):
    """`namespace` for templates, without names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # self may be a name, as in jinja2
        for name in dict(*args[1:], **kwargs):
            _check_name(name)
        Namespace.__init__(*args, **kwargs)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace takes no underscored name, got {name!r}")


def _call(name: str, args: list[nodes.Expr], at: nodes.Node) -> nodes.Call:
    function = nodes.EnvironmentAttribute(name)
    return nodes.Call(function, args, [], None, None, lineno=at.lineno)


def _size(value: Any) -> int:
    """About the length of str(value), counted no further than the limit."""
    total, left = 0, [value]
    while left and total <= LARGEST:
        found = left.pop()
        total += len(found) if isinstance(found, str) else 1
        if isinstance(found, dict):
            left += [*found.keys(), *found.values()]
        elif isinstance(found, range):
            total += len(found)
        elif isinstance(found, list | tuple | set | frozenset):
            left += found
    return total


def _widths(name: str, operands: list[Any]) -> list[int]:
    """The integers among the operands that say how long a result shall be."""
    if name not in ("%", "format"):
        return [abs(value) for value in operands if type(value) is int]
    form = operands[0] if isinstance(operands[0], str) else ""
    written = [int(width) for width in re.findall(r"\d{1,9}", form)]
    if not _COMPUTED.search(form):
        return written
    flat = [v for o in operands for v in (o if isinstance(o, tuple | list) else [o])]
    return written + [abs(value) for value in flat if type(value) is int]


def _check_size(size: int) -> int:
    if size > LARGEST:
        raise WorkError(f"too much work: a text or a list longer than {LARGEST}")
    return size


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without the escapes that jinja2's own filter makes for HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _strftime_now(form: str) -> str:
    return datetime.datetime.now().strftime(form)


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)
