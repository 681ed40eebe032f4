"""Every method under its name: those of the package, and those that come from outside.

A method comes from outside by `register`, or as an entry point `latentcot.methods` of an installed
package (docs/methods.md). Its settings are a dataclass; a recipe says `method: codi`, or
`method: {name: codi, distillation_weight: 20}`.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import import_module
from typing import Any

from pydantic import TypeAdapter, ValidationError

from latentcot.errors import MethodError, did_you_mean
from latentcot.methods.method import Method
from latentcot.utils.parsing import shown
from latentcot.utils.plugins import add, load_all
from latentcot.utils.problems import Form, explain_all

ENTRY_POINTS = "latentcot.methods"


@dataclass(frozen=True)
class NoSettings:
    """For methods without numbers of their own."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic


@dataclass(frozen=True, slots=True)
class Registered:
    """A method that can be made.

    Attributes:
        name: In lower case with hyphens.
        summary: One line for `latentcot list methods`.
        make: settings → the method; or "module:function", imported when it is first needed.
        settings: A frozen dataclass that pydantic can read.
    """

    name: str
    summary: str
    make: Callable[[Any], Method] | str
    settings: type[Any] | str = NoSettings

    def bound(self, values: Mapping[str, Any]) -> Method:
        """Return the method with these settings.

        Raises:
            MethodError: With all that is wrong with them.
        """
        kind, make = _resolved(self.settings), _resolved(self.make)
        try:
            settings = TypeAdapter(kind).validate_python(dict(values))
        except ValidationError as error:
            form = Form(f"the settings of {self.name}", kind, unions={}, inner={})
            problems = explain_all(error.errors(), form)
            raise MethodError("\n".join(f"method.{problem}" for problem in problems)) from None
        method: Method = make(settings)
        return replace(method, name=self.name, summary=self.summary, settings=asdict(settings))


def _resolved(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    module, _, name = value.partition(":")
    return getattr(import_module(module), name)


METHODS: dict[str, Registered] = {}


def register(method: Method | Registered) -> Method | Registered:
    """Add a method, from outside the package; return it.

    Args:
        method: A `Method` that has no settings, or a `Registered` that makes one of them.

    Raises:
        MethodError: The name is taken by another method.
    """
    if not isinstance(method, Method | Registered):
        raise MethodError(
            "register: needs a latentcot.Method, or a latentcot.methods.Registered that makes one, "
            f"got {type(method).__name__}."
        )
    row = (
        Registered(method.name, method.summary, _Same(method))
        if isinstance(method, Method)
        else method
    )
    add(METHODS, "method", row.name, row, MethodError)
    return method


@dataclass(frozen=True)
class _Same:
    """Makes the same method again, whoever registers it a second time."""

    method: Method

    def __call__(self, settings: NoSettings) -> Method:
        return self.method


@cache
def load_entry_points() -> None:
    """Add the methods that installed packages declare under the entry point `latentcot.methods`.

    Raises:
        MethodError: One of them cannot be loaded.
    """
    load_all(ENTRY_POINTS, register, MethodError)


def method_named(choice: str | Mapping[str, Any]) -> Method:
    """Return a method, given its name, or its name and settings.

    Raises:
        MethodError: There is no such method, or its settings are wrong.
    """
    values = {"name": choice} if isinstance(choice, str) else dict(choice)
    name = values.pop("name", None)
    if not isinstance(name, str):
        raise MethodError(
            f"method: must be a name, or a name with settings such as {{name: codi}}, got "
            f"{shown(choice)}."
        )
    return registered(name).bound(values)


def registered(name: str) -> Registered:
    """Return the row of a method, before it has settings and without importing what computes it.

    Raises:
        MethodError: There is none.
    """
    if name not in METHODS:
        load_entry_points()
    if name not in METHODS:
        raise MethodError(
            f"method {name!r} does not exist.{did_you_mean(name, METHODS)} "
            f"There are: {', '.join(METHODS)}."
        )
    return METHODS[name]


def host_named(choice: str | Mapping[str, Any]) -> Method:
    """Return a method whose thoughts another one supervises, given as in `method_named`.

    Raises:
        MethodError: As there, or it has no thoughts.
    """
    host = method_named(choice)
    view = host.view
    if not (view.is_filled and view.latents.is_thought) or view.compression is not None:
        raise MethodError(
            f"method.host: {host.name} has no thoughts that could be spelled. Use coconut, codi, …"
        )
    return host
