"""Runs the Jinja template of a model inside bounds: no way out of the sandbox, no endless loop, no endless text.

A chat template is a program that comes with a model. It runs as in transformers (`chat_template_utils.py`): jinja2's
immutable sandbox with trim_blocks, lstrip_blocks, loop controls, `raise_exception` and `tojson`. The bounds on steps,
time and sizes are ours.
"""

import contextvars
import functools
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox
import jinja2.utils
import jinja2.visitor

MAX_STEPS = 200_000  # iterations, calls and filters of one run
MAX_SIZE = 50_000_000  # characters and list items that one run may make
MAX_SECONDS = 10.0
# Their result may be as large as the product of the sizes of what they get.
_GROWING = {"replace", "join", "center", "ljust", "rjust", "zfill", "expandtabs", "translate"}
_GROWING |= {"indent", "batch", "slice", "wordwrap"}
# Padding of five digits, or of an unknown width, in a text with {} or % for values.
_WIDTH = re.compile(r"\{[^{}]*\d{5}|\{[^{}]+\{|%[^a-zA-Z%]*(\d{5}|\*)")


class ConversationRefusedError(ValueError):
    """The template called `raise_exception`: it does not take this conversation."""


class _Raised(jinja2.TemplateError):
    """What `raise_exception` raises inside a template."""


class _Budget:
    """What one run may still spend."""

    def __init__(self) -> None:
        self._steps, self._size, self._end = MAX_STEPS, MAX_SIZE, time.monotonic() + MAX_SECONDS

    def step(self) -> None:
        self._steps -= 1
        if self._steps < 0 or time.monotonic() > self._end:
            raise jinja2.TemplateError(f"it runs longer than {MAX_STEPS} steps or {MAX_SECONDS:.0f} seconds")

    def made(self, value: Any) -> Any:
        self.check(len(value) if isinstance(value, str | bytes | list | tuple) else 0)
        return value

    def check(self, size: int) -> None:
        self._size -= size
        if self._size < 0:
            raise jinja2.TemplateError(f"it makes texts or lists of more than {MAX_SIZE} characters or items")

    def product(self, *values: Any) -> None:
        """Raises an error before an operation whose result may be as large as the product of sizes."""
        size = 1
        for value in values:
            size *= abs(value) if isinstance(value, int) else len(value) if isinstance(value, str | bytes | list) else 1
        if size > MAX_SIZE:
            raise jinja2.TemplateError(f"it makes texts or lists of more than {MAX_SIZE} characters or items")


_budget: contextvars.ContextVar[_Budget] = contextvars.ContextVar("budget")


class SandboxedTemplate:
    """A template that was compiled once and runs many times."""

    def __init__(self, source: str, where: str):
        """Compiles the template.

        Args:
          source: the text of the template.
          where: its file, for errors.

        Raises:
          ValueError: the template has a syntax error.
        """
        self._where = where
        self._template = self._bounded(lambda: _Environment().from_string(source))

    def render(self, variables: Mapping[str, Any]) -> str:
        """Runs the template.

        Args:
          variables: what the template may use: text, numbers, lists and dicts of them.

        Raises:
          ConversationRefusedError: the template called `raise_exception`.
          ValueError: it failed, left the sandbox, or needs more time or memory than is allowed.
        """
        return self._bounded(lambda: "".join(map(_budget.get().made, self._template.generate(variables))))

    def _bounded(self, run: Callable[[], Any]) -> Any:
        token = _budget.set(_Budget())
        try:
            return run()
        except _Raised as error:
            raise ConversationRefusedError(
                f"The chat template in {self._where} refuses the conversation: {error}"
            ) from None
        except jinja2.TemplateSyntaxError as error:
            raise ValueError(
                f"The chat template in {self._where} is no valid Jinja: {error.message} (line {error.lineno}). Mend "
                "it, or fetch it again."
            ) from error
        except jinja2.sandbox.SecurityError as error:
            raise ValueError(
                f"The chat template in {self._where} tries to leave its sandbox ({_reason(error)}). Do not use this "
                "model, or replace its template."
            ) from error
        except Exception as error:  # a template is a program: it may raise anything
            raise ValueError(
                f"The chat template in {self._where} failed ({_reason(error)}). Check the roles and the order of the "
                "messages, or replace the template."
            ) from error
        finally:
            _budget.reset(token)


class _GenerationBlock(jinja2.ext.Extension):
    """Reads {% generation %} ... {% endgeneration %}, which marks the model's words, as its content."""

    tags = {"generation"}  # noqa: RUF012 - the base class has it so

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Counting(jinja2.visitor.NodeTransformer):
    """Puts a filter around what a loop runs over, and around joined texts."""

    def visit_For(self, node: jinja2.nodes.For) -> jinja2.nodes.For:  # noqa: N802 - named by its node
        self.generic_visit(node)
        node.iter = jinja2.nodes.Filter(node.iter, "counted", [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: jinja2.nodes.Concat) -> jinja2.nodes.Filter:  # noqa: N802
        self.generic_visit(node)
        return jinja2.nodes.Filter(node, "made", [], [], None, None, lineno=node.lineno)


class _Environment(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """transformers' environment, which counts what a template does."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, _GenerationBlock])
        self.filters = {name: _bounded_filter(name, run) for name, run in self.filters.items()}
        self.filters |= {"tojson": _tojson, "counted": _counted, "made": lambda value: _budget.get().made(value)}
        del self.globals["lipsum"]
        self.globals |= {"raise_exception": _raise, "namespace": _namespace, "dict": lambda *a, **k: dict(*a, **k)}

    def _parse(self, source: str, name: str | None, filename: str | None) -> jinja2.nodes.Template:
        return _Counting().visit(super()._parse(source, name, filename))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        budget = _budget.get()
        budget.step()
        if operator in ("*", "**"):
            budget.product(left, right)
        if operator == "%" and isinstance(left, str):
            _check_width(left)
        return budget.made(super().call_binop(context, operator, left, right))

    def call(*args: Any, **kwargs: Any) -> Any:  # self, context, called, and what the template gives
        self, context, called, *given = args
        budget = _budget.get()
        budget.step()
        method = getattr(called, "__wrapped__", called)  # the sandbox wraps str.format
        owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
        if isinstance(owner, str | bytes) and name in _GROWING:
            budget.product(owner, *given, *kwargs.values())
        if isinstance(owner, str) and name in ("format", "format_map"):
            _check_width(owner)
        return budget.made(jinja2.sandbox.ImmutableSandboxedEnvironment.call(self, context, called, *given, **kwargs))


def _bounded_filter(name: str, run: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a filter of Jinja that counts as a step, and whose result counts."""

    @functools.wraps(run)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        budget = _budget.get()
        budget.step()
        if name in _GROWING:
            budget.product(*args, *kwargs.values())
        if name == "format":
            _check_width(str(args[0]))
        return budget.made(run(*args, **kwargs))

    return bounded


def _check_width(form: str) -> None:
    if _WIDTH.search(form):
        raise jinja2.TemplateError(f"it formats with a large width: {form[:40]!r}")


def _reason(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__


def _counted(items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        _budget.get().step()
        yield item


def _raise(message: str) -> None:
    raise _Raised(message)


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Returns JSON, in which Jinja's own filter would escape the characters of HTML."""
    options = {"ensure_ascii": ensure_ascii, "separators": separators, "sort_keys": sort_keys}
    return _budget.get().made(json.dumps(value, indent=min(indent, 16) if indent else indent, **options))


class _Namespace(jinja2.utils.Namespace):
    """A namespace without private names, which would reach Python's own attributes."""

    def __setitem__(self, name: str, value: Any) -> None:
        _check_public(name)
        super().__setitem__(name, value)


def _namespace(*args: Any, **kwargs: Any) -> _Namespace:
    for name in dict(*args, **kwargs):
        _check_public(name)
    return _Namespace(*args, **kwargs)


def _check_public(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.sandbox.SecurityError(f"a namespace with the private name {name!r}")
