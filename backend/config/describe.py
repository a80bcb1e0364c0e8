"""Options in words, for the help and the manual."""

from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from backend.config.option import choices_of, default_of, facts_of, plain_types
from backend.config.values import range_in_words

TYPES = {bool: "on or off", int: "whole number", float: "number", str: "text"}
MANY = {int: "whole numbers", float: "numbers", str: "words"}


def type_in_words(field: FieldInfo) -> str:
    """Such as 'whole number', 'number', 'image folder', 'one of: no, bf16'."""
    types, facts = plain_types(field.annotation), facts_of(field)
    if facts.path:
        return facts.path
    if choices_of(field):
        return f"one of: {', '.join(map(str, choices_of(field)))}"
    if get_origin(types[0]) is list:
        return MANY[get_args(types[0])[0]]
    return TYPES[float] if set(types) == {int, float} else TYPES[types[0]]


def placeholder(field: FieldInfo) -> str:
    """What stands for the value in a usage line; empty for what is on or off."""
    types, facts = plain_types(field.annotation), facts_of(field)
    if types == (bool,):
        return ""
    if facts.path:
        return "FOLDER" if facts.path.endswith("folder") else "FILE"
    if get_origin(types[0]) is Literal:
        return "CHOICE"
    if get_origin(types[0]) is list:
        return f"{one_of(get_args(types[0])[0])} ..."
    return one_of(types[0])


def one_of(kind: type) -> str:
    """What stands for one value of a type."""
    return {int: "N", float: "X", str: "TEXT"}[kind]


def flag(name: str, field: FieldInfo) -> str:
    """The flag as it is written; one that is on by default is of use only switched off."""
    if plain_types(field.annotation) == (bool,) and default_of(field) is True:
        return f"--no_{name}"
    return f"--{name} {placeholder(field)}".rstrip()


def value_in_words(value: Any) -> str:
    """A value as a person would say it."""
    if value is None or value == "" or value == []:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return " ".join(map(value_in_words, value))
    return str(value)


def facts_in_words(field: FieldInfo, command: str) -> list[str]:
    """Type, range, unit and default, each a few words."""
    facts = facts_of(field)
    found = [type_in_words(field), range_in_words(facts), f"in {facts.unit}" if facts.unit else ""]
    found.append(f"default: {value_in_words(default_of(field, command))}")
    return [words for words in found if words]
