"""From what a person writes (a flag, a line of TOML, a form field) to one option's value."""

import math
import os
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from backend.config.known import UNBUILT_CHOICES
from backend.config.option import Facts, choices_of, default_of, facts_of, plain_types
from backend.faults import nearest

YES = ("true", "yes", "on", "1")
NO = ("false", "no", "off", "0")
NONE = type(None)


def read_value(name: str, field: FieldInfo, raw: Any, command: str = "", subject: str = "") -> Any:
    """The typed value of an option. Raises ValueError with a full sentence; subject: how the sentence names the option."""
    facts, subject = facts_of(field), subject or name
    if is_empty(raw):
        return read_empty(field, command, subject, raw)
    seen = raw
    try:
        value = seen = read_typed(field.annotation, facts.read(raw) if facts.read else raw)
        check_range(facts, value)
    except ValueError as fault:
        raise ValueError(f"{subject} is {shown(seen)}, but {fault}.") from None
    except UnknownChoice as fault:
        raise ValueError(unknown_choice(name, subject, fault)) from None
    # A shell would have done that, but a file has no shell.
    return os.path.expanduser(value) if facts.path and isinstance(value, str) else value


class UnknownChoice(Exception):
    """A value that is not among the choices."""

    def __init__(self, value: Any, choices: tuple):
        super().__init__(value)
        self.value, self.choices = value, choices


def is_empty(raw: Any) -> bool:
    """Whether nothing was written."""
    return raw is None or (isinstance(raw, str) and not raw.strip()) or raw in ([], [""])


def read_empty(field: FieldInfo, command: str, subject: str, raw: Any) -> Any:
    """The value that an emptied field means: none, an empty list or text, or the default choice."""
    types = plain_types(field.annotation)
    if admits_none(field.annotation):
        return None
    if get_origin(types[0]) is list and not facts_of(field).read:
        return []
    if choices_of(field):
        return default_of(field, command)
    if types == (str,):
        return raw or ""
    raise ValueError(f"{subject} is empty, but must be {wanted(types)}.")


def admits_none(annotation: Any) -> bool:
    """Whether None is a value of this type."""
    return NONE in get_args(annotation)


def read_typed(annotation: Any, raw: Any) -> Any:
    """The value as its type; a str may stand for a number or a yes and no."""
    types = plain_types(annotation)
    if admits_none(annotation) and types != (str,) and isinstance(raw, str) and raw.strip().lower() == "none":
        return None
    if get_origin(types[0]) is Literal:
        return read_choice(get_args(types[0]), raw)
    if get_origin(types[0]) is list:
        return read_list(get_args(types[0])[0], raw)
    if set(types) == {int, float}:
        number = read_float(raw)
        return int(number) if isinstance(raw, int) else number
    return READERS[types[0]](raw)


def read_list(element: Any, raw: Any) -> list:
    """A list as given, or a single text split at blanks (as the community's command lines are)."""
    if isinstance(raw, str):
        raw = raw.split()
    if not isinstance(raw, (list, tuple)):
        raw = [raw]
    return [read_typed(element, part) for part in raw]


def read_choice(choices: tuple, raw: Any) -> Any:
    """The choice that is meant, whatever its capitals."""
    for choice in choices:
        if str(choice).lower() == str(raw).strip().lower():
            return choice
    raise UnknownChoice(raw, tuple(choice for choice in choices if choice is not None))


def read_bool(raw: Any) -> bool:
    """True or false, as words or as 1 and 0."""
    if isinstance(raw, bool):
        return raw
    word = str(raw).strip().lower()
    if word in YES or word in NO:
        return word in YES
    raise ValueError("must be true or false")


def read_int(raw: Any) -> int:
    """A whole number; 12.0 and "12" are ones too."""
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    try:
        # A seed has more digits than a float holds, so digits are read as they stand.
        is_digits = isinstance(raw, str) and raw.strip().lstrip("+-").isdigit()
        return int(raw) if is_digits else whole(read_float(raw))
    except ValueError:
        raise ValueError("must be a whole number") from None


def whole(number: float) -> int:
    """The number as an int. Raises ValueError where it has a fraction."""
    if number != int(number):
        raise ValueError
    return int(number)


def read_float(raw: Any) -> float:
    """A finite number."""
    try:
        if isinstance(raw, (bool, list, dict)):
            raise ValueError
        number = float(raw)
    except (TypeError, ValueError):
        raise ValueError("must be a number") from None
    if not math.isfinite(number):
        raise ValueError("must be a finite number")
    return number


def read_str(raw: Any) -> str:
    """Text; a number is taken as it is written."""
    if isinstance(raw, (bool, list, tuple, dict)):
        raise ValueError("must be text")
    return str(raw)


READERS = {bool: read_bool, int: read_int, float: read_float, str: read_str}
WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def wanted(types: tuple) -> str:
    """What must be given, in words."""
    if set(types) == {int, float}:
        return WORDS[float]
    if get_origin(types[0]) is list:
        return "a list"
    return WORDS[types[0]]


def check_range(facts: Facts, value: Any) -> None:
    """Raises ValueError where the value, or one of a list, is out of the option's range."""
    many = isinstance(value, list)
    for number in value if many else [value]:
        if isinstance(number, (int, float)) and not isinstance(number, bool) and not in_range(facts, number):
            raise ValueError(f"{'every value ' if many else ''}must be {range_in_words(facts)}")


def in_range(facts: Facts, number: float) -> bool:
    """Whether minimum, maximum and above are kept."""
    return ((facts.minimum is None or number >= facts.minimum)
            and (facts.maximum is None or number <= facts.maximum)
            and (facts.above is None or number > facts.above))


def range_in_words(facts: Facts) -> str:
    """Such as '0 or more', 'between 0 and 1', 'more than 0'; empty where any value will do."""
    if facts.above is not None:
        return f"more than {facts.above}" + (f" and at most {facts.maximum}" if facts.maximum is not None else "")
    if facts.minimum is not None and facts.maximum is not None:
        return f"between {facts.minimum} and {facts.maximum}"
    if facts.minimum is not None:
        return f"{facts.minimum} or more"
    return f"at most {facts.maximum}" if facts.maximum is not None else ""


def unknown_choice(name: str, subject: str, fault: UnknownChoice) -> str:
    """The sentence for a value that is not among the choices: known elsewhere, or nearest, or all of them."""
    unbuilt = {choice.lower() for choice in UNBUILT_CHOICES.get(name, ())}
    choices = ", ".join(map(str, fault.choices))
    if str(fault.value).strip().lower() in unbuilt:
        return f"{subject} is {shown(fault.value)}, which is known to sd-scripts, but not built here yet. Choose one of: {choices}."
    near = nearest(str(fault.value), map(str, fault.choices))
    hint = f' Did you mean "{near}"?' if near else ""
    return f"{subject} is {shown(fault.value)}, which is not known.{hint} Choose one of: {choices}."


def shown(value: Any) -> str:
    """A value as it would be written in a config file."""
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(shown, value))}]"
    return str(value)
