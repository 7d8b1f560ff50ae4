"""One description of a setting: its default, help and bounds are beside the field, and all else is derived from them.

@dataclasses.dataclass(frozen=True)
class SearchSettings(Settings):
    k: int = setting(5, "Number of sources to return.", least=1)
    method: str = setting("exact", "How to search.", choices=("exact", "hnsw"))

define_flags(SearchSettings)                     # --k and --method, with their help and bounds
SearchSettings(**flag_values(SearchSettings))    # what the command line says
SearchSettings(k=0)                              # ValueError: k is 0; expected 1 or more.
from_json(SearchSettings, stored, "config.json") # a missing field has its default, an unknown one is named
"""

import dataclasses
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

from absl import flags

T = TypeVar("T")
REQUIRED = dataclasses.MISSING


@dataclasses.dataclass(frozen=True)
class Description:
    """What is known of a setting besides its type and default.

    Attributes:
      help: what it does and its unit, in a sentence.
      least: smallest value.
      most: largest value.
      above: the value must be larger.
      below: the value must be smaller.
      choices: the values it may have; empty: any.
      changes_results: whether another value leads to other results; if not, a run may be resumed with another one.
      former_name: name of the field in files of earlier versions, if it had another one.
    """

    help: str
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[Any, ...] = ()
    changes_results: bool = True
    former_name: str | None = None

    def allows(self, value: Any) -> bool:
        """Returns whether a value is within the bounds; NaN never is."""
        if self.choices:
            return value in self.choices
        return (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    @property
    def expected(self) -> str:
        """The bounds in words, such as `0 to 1`."""
        if self.choices:
            return " or ".join(map(str, self.choices)) if len(self.choices) < 3 else ", ".join(map(str, self.choices))
        if self.least is not None and self.most is not None:
            return f"{self.least:g} to {self.most:g}"
        bounds = [
            ("{:g} or more", self.least),
            ("more than {:g}", self.above),
            ("at most {:g}", self.most),
            ("less than {:g}", self.below),
        ]
        return " and ".join(text.format(value) for text, value in bounds if value is not None)


def setting(
    default: Any,
    help: str,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: Sequence[Any] = (),
    changes_results: bool = True,
    former_name: str | None = None,
) -> Any:
    """Returns a dataclass field with its description.

    Args:
      default: REQUIRED if it has none.
      help: what the setting does, in a sentence.
      least: smallest value.
      most: largest value.
      above: the value must be larger.
      below: the value must be smaller.
      choices: the values it may have.
      changes_results: whether another value leads to other results.
      former_name: name of the field in files of earlier versions.
    """
    description = Description(help, least, most, above, below, tuple(choices), changes_results, former_name)
    return dataclasses.field(default=default, metadata={"description": description})


class Settings:
    """A base for frozen dataclasses whose fields are made by `setting`: values out of bounds are refused."""

    def __post_init__(self) -> None:
        """Raises a ValueError for a value out of its bounds; a subclass that overrides this calls it first."""
        kinds = {field.name: field.type for field in dataclasses.fields(self)}
        for name, description in descriptions(type(self)).items():
            value = getattr(self, name)
            if isinstance(value, str) and typing.get_origin(_plain(kinds[name])) is tuple:  # its letters would be taken
                raise ValueError(f"{name} is the text {value!r}; expected a tuple, such as ({value!r},).")
            if value is not None and not description.allows(value):
                raise ValueError(f"{name} is {value!r}; expected {description.expected}.")


def descriptions(cls: type) -> dict[str, Description]:
    """Returns the description of each field of a dataclass that has one."""
    described = {field.name: field.metadata.get("description") for field in dataclasses.fields(cls)}
    return {name: description for name, description in described.items() if description}


def decisive(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Returns the values that decide the results, of a dataclass and those inside it: {"loss.scale": 20.0, ...}."""
    described, values = descriptions(type(settings)), {}
    for field in dataclasses.fields(settings):
        if field.name in described and not described[field.name].changes_results:
            continue
        value = getattr(settings, field.name)
        name = f"{prefix}{field.name}"
        values |= decisive(value, f"{name}.") if dataclasses.is_dataclass(value) else {name: value}
    return values


def define_flags(cls: type, but: Collection[str] = (), names: Mapping[str, str] | None = None, **defaults: Any) -> None:
    """Defines an absl flag for each described field of a dataclass.

    Args:
      cls: the dataclass.
      but: fields that get no flag.
      names: {field: name of its flag}, if they differ.
      **defaults: defaults of the flags where they differ from the fields'.
    """
    flags.disclaim_key_flags()  # they are the script's own: its --help shows them
    names, kinds = names or {}, typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for name, described in descriptions(cls).items():
        if name in but:
            continue
        default = defaults.get(name, fields[name].default)
        required = default is REQUIRED
        _define(names.get(name, name), _plain(kinds[name]), None if required else default, described, required)


def _define(flag: str, kind: Any, default: Any, described: Description, required: bool) -> None:
    options = {"required": required}
    bounds = {"lower_bound": described.least, "upper_bound": described.most}
    if typing.get_origin(kind) is tuple:
        flags.DEFINE_list(flag, default if default is None else list(map(str, default)), described.help, **options)
    elif kind is bool:
        flags.DEFINE_bool(flag, default, described.help, **options)
    elif described.choices:
        flags.DEFINE_enum(flag, default, list(map(str, described.choices)), described.help, **options)
    elif kind is int:
        flags.DEFINE_integer(flag, default, described.help, **bounds, **options)
    elif kind is float:
        flags.DEFINE_float(flag, default, described.help, **bounds, **options)
    else:
        flags.DEFINE_string(flag, default, described.help, **options)


def flag_values(cls: type, but: Collection[str] = (), names: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Returns the values of the flags that `define_flags` defined, by field.

    Raises:
      ValueError: a list of numbers holds something else.
    """
    names, kinds = names or {}, typing.get_type_hints(cls)
    return {name: _listed(names.get(name, name), _plain(kinds[name])) for name in descriptions(cls) if name not in but}


def _listed(flag: str, kind: Any) -> Any:
    """Returns a flag's value; that of a list as a tuple of its type."""
    value = flags.FLAGS[flag].value
    if typing.get_origin(kind) is not tuple or value is None:
        return value
    try:
        return tuple(map(typing.get_args(kind)[0], value))
    except ValueError:
        raise ValueError(f"--{flag} is {','.join(value)!r}; expected numbers with commas between.") from None


def _plain(kind: Any) -> Any:
    """Returns `int` for `int | None`."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        kinds = [part for part in typing.get_args(kind) if part is not types.NoneType]
        return kinds[0] if len(kinds) == 1 else kind
    return kind


def from_json(cls: type[T], stored: Mapping[str, Any], where: str, former: Mapping[str, Any] | None = None) -> T:
    """Returns a dataclass as it was stored in JSON.

    A field that is missing has its default, so that a new setting makes no stored file useless.

    Args:
      cls: the dataclass; dataclasses inside it, and tuples of them, are read as well.
      stored: what `dataclasses.asdict` gave, from JSON.
      where: the file, for errors.
      former: fields that earlier versions had, here or in the dataclasses inside, each with the value at which it
        changed nothing; there it is left out.

    Raises:
      ValueError: a field that this version does not know, or one without a default is missing.
    """
    kinds, fields = typing.get_type_hints(cls), {field.name: field for field in dataclasses.fields(cls)}
    former, renamed = former or {}, {d.former_name: name for name, d in descriptions(cls).items()}
    stored = {renamed.get(name, name): value for name, value in stored.items()}
    stored = {name: value for name, value in stored.items() if name in fields or former.get(name, REQUIRED) != value}
    if unknown := sorted(set(stored) - set(fields)):
        raise ValueError(
            f"{where} has settings that this version does not know: {', '.join(unknown)}. It was written by another "
            "version of docproduct: read it with that one."
        )
    missing = [
        name
        for name, field in fields.items()
        if name not in stored and field.default is REQUIRED and field.default_factory is REQUIRED
    ]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}: the file is damaged, or holds something else.")
    return cls(**{name: _read(_plain(kinds[name]), value, where, former) for name, value in stored.items()})


def _read(kind: Any, value: Any, where: str, former: Mapping[str, Any]) -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        return from_json(kind, value, where, former)
    if typing.get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_read(typing.get_args(kind)[0], item, where, former) for item in value)
    return value
