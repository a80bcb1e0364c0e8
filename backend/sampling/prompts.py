"""Prompt files: what to draw while training, as text, TOML or JSON."""

import json
import math
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator

from backend.config.option import choices_of
from backend.faults import FaultList, Faults, did_you_mean
from backend.sampling.options import SamplingOptions

SHORTEST_SIDE, LONGEST_SIDE = 64, 8192  # pixels
# An option stands apart from the words before it and begins with a letter: "a -- b" and "well--known" are words.
OPTION = re.compile(r"(?:^|(?<=\s))--([A-Za-z]\S*)")


@dataclass(frozen=True)
class Prompt:
    """One picture to draw. width, height: pixels, multiples of 8; seed and sampler: None where the prompt leaves them open."""

    text: str
    negative: str = ""
    width: int = 512
    height: int = 512
    seed: int | None = None
    steps: int = 30
    scale: float = 7.5
    sampler: str | None = None


def read_prompts(path: str | Path) -> list[Prompt]:
    """The prompts of a file: .toml and .json as such, anything else as text with one prompt a line. Raises Faults, all at once."""
    path = Path(path)
    text = read_text(path)
    reader = {".toml": toml_prompts, ".json": json_prompts}.get(path.suffix.lower(), text_prompts)
    faults, prompts = FaultList(), []
    for where, settings in reader(path, text):
        try:
            prompts.append(make_prompt(settings))
        except Faults as found:
            faults.extend(f"sample_prompts: {path}, {where}: {message}" for message in found.messages)
    faults.raise_if_any()
    if not prompts:
        raise Faults(f"sample_prompts: {path} holds no prompt. Write one prompt a line; lines that begin with # do not count.")
    return prompts


def read_text(path: Path) -> str:
    """The file's words. Raises Faults where it cannot be read or is not UTF-8."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise Faults(f"sample_prompts: {path} does not exist. Name a file with one prompt a line.") from None
    except OSError as error:
        raise Faults(f"sample_prompts: {path} cannot be read: {error.strerror or error}. Name a file with one prompt a line.") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Faults(
            f"sample_prompts: {path} is not UTF-8: byte {error.start + 1} of the file, in line {line}, is 0x{data[error.start]:02x}. "
            "Save it as UTF-8 in your text editor.") from None


Settings = dict[str, Any] | str  # the keys of a TOML or JSON prompt, or a line


def text_prompts(path: Path, text: str) -> Iterator[tuple[str, Settings]]:
    """Each line that is a prompt, with its place."""
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.strip()
        if line and not line.startswith("#"):
            yield f"line {number}", line


def toml_prompts(path: Path, text: str) -> Iterator[tuple[str, Settings]]:
    """Each [[prompt.subset]], with the defaults that stand in [prompt]."""
    try:
        table = tomllib.loads(text).get("prompt")
    except tomllib.TOMLDecodeError as error:
        raise Faults(f"sample_prompts: {path} is not proper TOML: {error}.") from None
    subsets = table.get("subset") if isinstance(table, dict) else None
    if not isinstance(subsets, list) or not all(isinstance(subset, dict) for subset in subsets):
        raise Faults(f'sample_prompts: {path} holds no [[prompt.subset]]. Write one for each picture, with prompt = "...".')
    defaults = {key: value for key, value in table.items() if key != "subset"}
    for number, subset in enumerate(subsets, start=1):
        yield f"prompt {number}", {**defaults, **subset}


def json_prompts(path: Path, text: str) -> Iterator[tuple[str, Settings]]:
    """Each entry of the list: an object with keys, or a line of text."""
    try:
        entries = json.loads(text)
    except json.JSONDecodeError as error:
        raise Faults(f"sample_prompts: {path} is not proper JSON: {error}.") from None
    if not isinstance(entries, list) or not all(isinstance(entry, (dict, str)) for entry in entries):
        raise Faults(f'sample_prompts: {path} must hold a list of prompts: [{{"prompt": "...", "width": 512}}, "a cat --d 1"].')
    for number, entry in enumerate(entries, start=1):
        yield f"prompt {number}", entry


def make_prompt(settings: Settings) -> Prompt:
    """A prompt from a line or from keys. Raises Faults with all that is wrong."""
    faults = FaultList()
    if isinstance(settings, str):
        text, pairs = split_line(settings)
        known = {letter: (f"--{letter}", *rule) for letter, rule in LETTERS.items()}
    else:
        text = settings.get("prompt", "")
        pairs = [(key, value) for key, value in settings.items() if key != "prompt"]
        known = {key: (key, *LETTERS[letter]) for key, letter in KEYS.items()}
    if not isinstance(text, str):
        faults.add(f"prompt is {text!r}, but must be words in quotes.")
    values: dict[str, Any] = {}
    for name, value in pairs:
        try:
            read_one(known, name, value, values)
        except ValueError as error:
            faults.add(str(error))
    faults.raise_if_any()
    return Prompt(text=text, **values)


def split_line(line: str) -> tuple[str, list[tuple[str, str]]]:
    """The prompt's own words, and the options after them as (letter, value)."""
    found = list(OPTION.finditer(line))
    if not found:
        return line.strip(), []
    ends = [match.start() for match in found[1:]] + [len(line)]
    pairs = [(match.group(1).lower(), line[match.end():end].strip()) for match, end in zip(found, ends)]
    return line[:found[0].start()].strip(), pairs


def read_one(known: dict[str, tuple], name: str, value: Any, values: dict[str, Any]) -> None:
    """Read one option into `values`. Raises ValueError with words for the user."""
    shown = f"--{name}" if "n" in known else name
    if name in UNBUILT:
        raise ValueError(f"{shown} ({UNBUILT[name]}) is known to sd-scripts, but not built here yet; remove it.")
    if name not in known:
        raise ValueError(f"{shown} is not an option of a prompt.{hint(known, name)}")
    shown, field, read, must_be = known[name]
    if field in values:
        raise ValueError(f"{shown} is given twice; keep one.")
    if value == "" and field != "negative":
        raise ValueError(f"{shown} has no value; it {must_be}.")
    try:
        values[field] = read(value)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"{shown} is {value}, but {must_be}.") from None


def hint(known: dict[str, tuple], name: str) -> str:
    """What may have been meant: --w512 lacks a space, and keys have near names."""
    for letter in sorted(known, key=len, reverse=True):
        if "n" in known and name.startswith(letter) and name[len(letter):len(letter) + 1].isdigit():
            return f" Did you mean --{letter} {name[len(letter):]}?"
    if "n" not in known:
        return did_you_mean(name, known)
    return f" There are {', '.join(sorted('--' + letter for letter in known))}; words of the prompt must not begin with --."


def whole(value: Any) -> int:
    """A whole number, as a number or as its digits."""
    if isinstance(value, bool) or (isinstance(value, float) and value != int(value)):
        raise ValueError
    return int(value)


def between(low: int, high: int) -> Callable[[Any], int]:
    """Reads a whole number of this range."""
    def read(value: Any) -> int:
        number = whole(value)
        if not low <= number <= high:
            raise ValueError
        return number
    return read


def side(value: Any) -> int:
    """A side in pixels, rounded down to a multiple of 8 as the latents need."""
    return between(SHORTEST_SIDE, LONGEST_SIDE)(value) // 8 * 8


def strength(value: Any) -> float:
    """A finite number of 0 or more."""
    number = float(value)
    if isinstance(value, bool) or not math.isfinite(number) or number < 0:
        raise ValueError
    return number


def words(value: Any) -> str:
    """Words as they are."""
    if not isinstance(value, str):
        raise ValueError
    return value


def sampler_name(value: Any) -> str:
    """The name of a sampler, in any case."""
    name = words(value).lower()
    if name not in SAMPLER_NAMES:
        raise ValueError
    return name


SAMPLER_NAMES = choices_of(SamplingOptions.model_fields["sample_sampler"])
SIDE_WORDS = f"must be a whole number of pixels from {SHORTEST_SIDE} to {LONGEST_SIDE}"
# letter -> (field of Prompt, how it is read, what it must be)
LETTERS: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "n": ("negative", words, "must be words"),
    "w": ("width", side, SIDE_WORDS),
    "h": ("height", side, SIDE_WORDS),
    "d": ("seed", between(0, 2**63 - 1), "must be a whole number of 0 or more"),
    "s": ("steps", between(1, 1000), "must be a whole number from 1 to 1000"),
    "l": ("scale", strength, "must be a number of 0 or more"),
    "ss": ("sampler", sampler_name, f"must be one of {', '.join(SAMPLER_NAMES)}"),
}
# The same in TOML and JSON files.
KEYS = {"negative_prompt": "n", "width": "w", "height": "h", "seed": "d", "sample_steps": "s", "scale": "l", "sample_sampler": "ss"}
UNBUILT = {
    "g": "guidance of distilled models", "guidance_scale": "guidance of distilled models",
    "cn": "a control image", "controlnet_image": "a control image",
    "ctr": "guidance cut off part-way", "cfg_trunc_ratio": "guidance cut off part-way",
    "rcfg": "renormalised guidance", "renorm_cfg": "renormalised guidance",
    "fs": "the time shift of flow models", "flow_shift": "the time shift of flow models",
}
