"""Words: every key in every language, values in their places, and the language that a browser gets."""

import json
import re
import string
from pathlib import Path

import pytest

from gui.text import CATALOGUES, LANGUAGES, best_language, choice_text, english, text

ROOT = Path(__file__).resolve().parents[2]
OTHERS = [language for language in LANGUAGES if language != "en"]


def read(language):
    return json.loads((CATALOGUES / f"{language}.json").read_text(encoding="utf-8"))


def places(words):
    """The {names} in a sentence."""
    return {name for _, name, _, _ in string.Formatter().parse(words) if name}


@pytest.mark.parametrize("language", OTHERS)
def test_a_language_has_every_key_and_no_other(language):
    assert sorted(set(english()) - set(read(language))) == [], "missing"
    assert sorted(set(read(language)) - set(english())) == [], "orphans"


@pytest.mark.parametrize("language", OTHERS)
def test_under_a_tenth_of_a_language_is_the_english(language):
    same = [key for key, words in read(language).items() if words == english()[key]]
    assert len(same) < 0.1 * len(english()), same


@pytest.mark.parametrize("language", OTHERS)
def test_a_translation_has_words_and_the_same_places_for_values(language):
    for key, words in read(language).items():
        assert words.strip(), key
        if not key.endswith(".help"):
            assert places(words) == places(english()[key]), key


def test_every_catalogue_is_a_language_of_the_page():
    assert sorted(path.stem for path in CATALOGUES.glob("*.json")) == sorted(OTHERS)


def test_every_key_that_the_page_names_exists():
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "gui").rglob("*.py"))
    named = set(re.findall(r'\btext\("([\w.]+)"', code))
    assert named and sorted(named - set(english())) == []


def test_words_of_options_come_from_their_declarations():
    assert text("network_dim.help") == "Rank: how much the network can hold. 4 to 32 is usual."
    assert text("network_dim.help", "ja").startswith("ランク")
    assert text("learning_rate.label") == "Learning rate"


def test_values_stand_in_their_places_in_every_language():
    for language in LANGUAGES:
        assert "17" in text("login.wait", language, seconds=17)


def test_an_unknown_key_is_refused():
    with pytest.raises(KeyError):
        text("no.such.key")


def test_choices_are_words_where_there_are_some_and_themselves_elsewhere():
    assert choice_text("lr_scheduler", "constant", "zh-CN") == "恒定"
    assert choice_text("optimizer_type", "AdamW8bit", "zh-CN") == "AdamW8bit"


@pytest.mark.parametrize("header, remembered, wanted", [
    ("en-US,en;q=0.9", "", "en"), ("zh-CN,zh;q=0.9,en;q=0.8", "", "zh-CN"), ("zh-TW", "", "zh-CN"), ("ja-JP", "", "ja"),
    ("de-DE,ja;q=0.8,en;q=0.9", "", "en"), ("de-DE", "", "en"), ("", "", "en"), ("ja;q=0,en", "", "en"), (";;q=x,,ja", "", "ja"),
    ("ja", "zh-CN", "zh-CN"), ("ja", "klingon", "ja")])
def test_the_language_is_the_remembered_one_or_what_the_browser_wants_most(header, remembered, wanted):
    assert best_language(header, remembered) == wanted
