"""What an option is. Everything else about it (flag, TOML key, manual, metadata) is derived from here."""

from dataclasses import dataclass, field
from types import UnionType
from typing import Any, Callable, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

Effect = Literal["result", "files", "plan", "speed", "words"]
PathKind = Literal["model file", "network file", "state folder", "image folder", "text file", "config file", "output folder"]
Level = Literal["general", "datasets", "subsets"]


@dataclass(frozen=True)
class Facts:
    """What is known of an option besides its type and default."""

    help: str
    example: tuple  # (another value, what it changes: Effect[, other options it needs: dict])
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None  # must be more than this
    unit: str = ""
    advanced: bool = False
    shown_when: str = ""  # the name of an option that must be on for this one to matter
    path: PathKind | None = None
    secret: bool = False
    aliases: tuple[str, ...] = ()  # the community's old and misspelt names
    levels: tuple[Level, ...] = ()  # where in a dataset file it may stand
    default_for: dict[str, Any] = field(default_factory=dict)  # command -> default, where the community's differ
    may_change: bool = False  # a resumed run may have another value
    flag: bool = True  # False: only in a dataset file
    positional: bool = False
    read: Callable[[Any], Any] | None = None  # turns what a person writes into the value; raises ValueError with words


class Options(BaseModel):
    """A group of options: one folder's `options.py`, one section of the form. Immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), arbitrary_types_allowed=False)


def option(default: Any, help: str, **facts: Any) -> Any:
    """Declare one option: `learning_rate: float = option(2e-6, "Step size.", minimum=0, example=(1e-3, "result"))`.

    The keyword arguments are the fields of Facts. A list or dict as default is copied for each config.
    """
    known = Facts(help=help, **facts)
    extra = {"facts": known}
    if isinstance(default, (list, dict)):
        return Field(default_factory=lambda: type(default)(default), description=help, json_schema_extra=extra)
    return Field(default=default, description=help, json_schema_extra=extra)


def facts_of(field_info: FieldInfo) -> Facts:
    """The facts that `option` stored in a field."""
    return field_info.json_schema_extra["facts"]


def default_of(field_info: FieldInfo, command: str = "") -> Any:
    """An option's default, for a command where commands differ."""
    facts = facts_of(field_info)
    if command in facts.default_for:
        return facts.default_for[command]
    return field_info.get_default(call_default_factory=True)


def choices_of(field_info: FieldInfo) -> tuple:
    """The values of a Literal option (None left out), or nothing where any value of the type will do."""
    for part in [field_info.annotation, *plain_types(field_info.annotation)]:
        if get_origin(part) is Literal:
            return tuple(value for value in get_args(part) if value is not None)
    return ()


def plain_types(annotation: Any) -> tuple:
    """The types an annotation admits, without None: `int | None` gives (int,)."""
    if get_origin(annotation) in (Union, UnionType):
        return tuple(part for part in get_args(annotation) if part is not type(None))
    return (annotation,)


def group_name(group: type[Options]) -> str:
    """The attribute under which a config holds a group: OptimizerOptions is `config.optimizer`."""
    return group.__name__.removesuffix("Options").lower()
