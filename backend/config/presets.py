"""Presets: part of the options under a name, `presets/<method>/<name>.json`."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backend.config import kohya
from backend.faults import FaultList, Faults, did_you_mean

FOLDER = Path(__file__).resolve().parents[2] / "presets"
VERSION = 1


@dataclass(frozen=True)
class Preset:
    """Part of the options. origin: how sentences name it; notes: what became of a foreign preset's settings."""

    origin: str
    about: str
    values: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def preset_names() -> list[str]:
    """The presets that come with the project, such as lora/demo."""
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.glob("*/*.json"))


def load_preset(name_or_path: str, command: str) -> Preset:
    """A preset by name (lora/demo), or a file, also one of the kohya_ss GUI. Its names and values are checked at the door. Raises Faults."""
    path = preset_path(name_or_path)
    content = read_json(path)
    if kohya.is_kohya(content):
        carried = kohya.translate(content, command)
        return Preset(str(path), "a preset of the kohya_ss GUI", carried.values, carried.report)
    faults = FaultList()
    check_form(content, path, faults)
    faults.raise_if_any()
    return Preset(str(path), content["about"], content["options"])


def preset_path(name_or_path: str) -> Path:
    """The file of a preset. Raises Faults."""
    path = Path(name_or_path).expanduser()
    if path.suffix.lower() == ".json":
        return path
    if name_or_path in preset_names():
        return FOLDER / f"{name_or_path}.json"
    raise Faults(f'preset is "{name_or_path}", which is not known.{did_you_mean(name_or_path, preset_names())} '
                 f"Presets: {', '.join(preset_names())}; or give a .json file.")


def read_json(path: Path) -> Any:
    """The file as JSON. Raises Faults."""
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as fault:
        raise Faults(f"{path} cannot be read: {fault.strerror or fault}. Give a preset's name or its .json file.") from None
    except UnicodeDecodeError as fault:
        raise Faults(f"{path} is not UTF-8 text (byte {fault.start}); save it as UTF-8.") from None
    except json.JSONDecodeError as fault:
        raise Faults(f"{path} is not valid JSON: {fault}.") from None


def check_form(content: Any, path: Path, faults: FaultList) -> None:
    """Tell what is missing or too much in a preset file."""
    if not isinstance(content, dict) or not isinstance(content.get("options"), dict):
        faults.add(f'{path} is not a preset: it must hold {{"version": {VERSION}, "about": "when to use it", "options": {{...}}}}.')
        return
    if content.get("version") != VERSION:
        faults.add(f"{path} has version {content.get('version')}, but this Darkroom reads version {VERSION}.")
    if not isinstance(content.get("about"), str):
        faults.add(f"{path} must say in \"about\" when to use it.")
    for key in sorted(set(content) - {"version", "about", "options"}):
        faults.add(f"{key} in {path} is not part of a preset.{did_you_mean(key, ('version', 'about', 'options'))}")
