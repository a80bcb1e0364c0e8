"""Every word of the page, in the language of its reader."""

import json
from functools import cache
from pathlib import Path

from backend.config.commands import COMMANDS
from backend.config.option import facts_of, group_name
from gui.words import ENGLISH

LANGUAGES = {"en": "English", "zh-CN": "简体中文", "ja": "日本語"}  # how each one calls itself
CATALOGUES = Path(__file__).resolve().parents[1] / "localizations"


def text(key: str, language: str = "en", **values) -> str:
    """The words behind a key, with values put in for {names}. Words that a language lacks are told in English. Raises KeyError for an unknown key.

    Keys: those of gui/words.py; for each option `<name>.label` and `<name>.help`; for each group of options `section.<name>.help`.
    """
    words = catalogue(language).get(key) or english()[key]
    return words.format(**values) if values else words


def choice_text(name: str, value: object, language: str = "en") -> str:
    """How one of an option's choices is shown: in words where it has some, else as it is written."""
    key = f"{name}.choice.{value}"
    return text(key, language) if key in english() else str(value)


@cache
def english() -> dict[str, str]:
    """All keys with their English words."""
    return {**words_of_options(), **ENGLISH}


@cache
def catalogue(language: str) -> dict[str, str]:
    """The words of another language by key; none for English."""
    if language == "en":
        return {}
    return json.loads((CATALOGUES / f"{language}.json").read_text(encoding="utf-8"))


def words_of_options() -> dict[str, str]:
    """What the declarations of the training commands' options say."""
    words = {}
    for group in {group: None for command in COMMANDS.values() if not command.is_tool for group in command.groups}:
        words[f"section.{group_name(group)}.help"] = group.__doc__.strip()
        for name, field in group.model_fields.items():
            words[f"{name}.label"] = in_words(name)
            words[f"{name}.help"] = facts_of(field).help
    return words


def in_words(name: str) -> str:
    """An option's name as a person would write it: min_snr_gamma is 'Min snr gamma'."""
    return name.replace("_", " ").capitalize()


def best_language(wanted: str, remembered: str = "") -> str:
    """The language for a browser: the one it remembers, else the first of its Accept-Language header that there is, else English."""
    if remembered in LANGUAGES:
        return remembered
    for tag in by_weight(wanted):
        for language in LANGUAGES:
            if tag == language.lower() or tag.split("-")[0] == language.lower().split("-")[0]:
                return language
    return "en"


def by_weight(header: str) -> list[str]:
    """The tags of an Accept-Language header, most wanted first."""
    found = []
    for part in header.lower().split(","):
        tag, _, weight = part.strip().partition(";q=")
        try:
            found.append((-float(weight or 1), tag))
        except ValueError:
            continue
    return [tag for weight, tag in sorted(found, key=lambda pair: pair[0]) if tag and weight < 0]
