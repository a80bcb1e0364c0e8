"""The dataset file (TOML or JSON) as it stands: which keys are given at which level. Values are checked later. Torch-free."""

import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backend.config.option import facts_of
from backend.data.options import DataOptions, SubsetOptions
from backend.faults import FaultList, Faults, did_you_mean

TABLES = {"general": "[general]", "datasets": "[[datasets]]", "subsets": "[[datasets.subsets]]"}

# Keys of the community's dataset files that are not obeyed yet, and the values that ask for nothing.
UNBUILT = {
    "network_multiplier": (1,), "validation_split": (0,), "validation_seed": (), "resize_interpolation": ("lanczos",), "color_aug": (False,),
    "face_crop_aug_range": (), "random_crop": (False,), "keep_tokens_separator": (), "secondary_separator": (), "enable_wildcard": (False,),
    "token_warmup_min": (1,), "token_warmup_step": (0,), "caption_prefix": (), "caption_suffix": (), "custom_attributes": (),
    "caption_dropout_every_n_epochs": (0,), "caption_tag_dropout_rate": (0,), "cache_info": (False,), "alpha_mask": (False,),
    "metadata_file": (), "conditioning_data_dir": (),
}
COMMAND_LINE_ELSEWHERE = ("debug_dataset", "max_token_length", "cache_latents_to_disk", "masked_loss")


@dataclass(frozen=True)
class Level:
    """One table of the file: how it is called, and the options it gives, by their right names, as written."""

    where: str  # such as dataset.toml: datasets[0].subsets[1]
    values: dict[str, Any] = field(default_factory=dict)
    spelt: dict[str, str] = field(default_factory=dict)  # option -> the key that was written, where it differs

    def subject(self, name: str) -> str:
        """How a sentence names an option that stands here."""
        return f"{self.where}.{self.spelt.get(name, name)}"


@dataclass(frozen=True)
class DatasetLevels:
    """A dataset of the file: its own table and those of its subsets."""

    own: Level
    subsets: list[Level]


def file_options() -> dict[str, Any]:
    """The options that may stand in a dataset file, by name."""
    fields = {**DataOptions.model_fields, **SubsetOptions.model_fields}
    return {name: info for name, info in fields.items() if facts_of(info).levels}


def read_levels(path: Path, faults: FaultList) -> tuple[Level, list[DatasetLevels]]:
    """The [general] table and the datasets of a file. Faults of keys and shape are added to `faults`; an unreadable file raises Faults."""
    content = read_file(path)
    for key in content:
        if key not in ("general", "datasets"):
            faults.add(f"{path.name}: {key} stands at the top, where only [general] and [[datasets]] may.{home_of(key)}")
    general = read_level(f"{path.name}: general", "general", content.get("general") or {}, faults)
    datasets = []
    for number, table in enumerate(tables(f"{path.name}: ", "datasets", content.get("datasets"), faults)):
        where = f"{path.name}: datasets[{number}]"
        inner = tables(f"{where}.", "subsets", table.get("subsets"), faults)
        own = read_level(where, "datasets", {key: value for key, value in table.items() if key != "subsets"}, faults)
        subsets = [read_level(f"{where}.subsets[{i}]", "subsets", subset, faults) for i, subset in enumerate(inner)]
        datasets.append(DatasetLevels(own, subsets))
    return general, datasets


def read_file(path: Path) -> dict[str, Any]:
    """The file's content. Raises Faults where it is missing or is not TOML or JSON."""
    if not path.is_file():
        raise Faults(f"dataset_config is {path}, but there is no such file.")
    is_json = path.suffix.lower() == ".json"
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = json.loads(text) if is_json else tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise Faults(f"dataset_config: {path} is not UTF-8 text (byte {error.start + 1}). Save it as UTF-8.") from None
    except OSError as error:
        raise Faults(f"dataset_config: {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        hint = " A Windows path needs single quotes in TOML ('C:\\cats')." if not is_json and "\\" in text else ""
        raise Faults(f"dataset_config: {path} is not {'JSON' if is_json else 'TOML'}: {error}.{hint}") from None
    if not isinstance(content, dict):
        raise Faults(f"dataset_config: {path} must hold a table with general and datasets.")
    return content


def tables(prefix: str, key: str, value: Any, faults: FaultList) -> list[dict[str, Any]]:
    """A list of tables; anything else is a fault."""
    if value is None or value == []:
        faults.add(f"{prefix}{key} is missing: add at least one {TABLES[key]}.")
        return []
    if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
        faults.add(f"{prefix}{key} must be a list of tables, written {TABLES[key]}.")
        return []
    return value


def read_level(where: str, level: str, table: Any, faults: FaultList) -> Level:
    """One table of the file, its keys brought to the options' names."""
    if not isinstance(table, dict):
        faults.add(f"{where} must be a table, written {TABLES[level]}.")
        return Level(where)
    options = file_options()
    names = {alias: name for name, info in options.items() for alias in (name, *facts_of(info).aliases)}
    found = Level(where)
    for key, value in table.items():
        name = names.get(key)
        if name is None or level not in facts_of(options[name]).levels:
            faults.extend(foreign_key(found.subject(key), key, level, value))
        elif name in found.values:
            faults.add(f"{found.subject(key)} says again what {found.spelt.get(name, name)} says. Leave one of them out.")
        elif value is not None:
            found.values[name] = value
            found.spelt[name] = key
    return found


def foreign_key(subject: str, key: str, level: str, value: Any) -> list[str]:
    """What to say of a key that may not stand at this level, or that is not obeyed."""
    if key in UNBUILT:
        nothing = value in (None, "", [], {}) or any(value == off for off in UNBUILT[key])
        return [] if nothing else [f"{subject} is known to sd-scripts, but not built here yet. Leave it out."]
    if key in ("subsets", "datasets", "general"):
        return [f"{subject} stands in the wrong place: it is written {TABLES[key]}."]
    return [f"{subject} is not an option of {TABLES[level]}.{home_of(key)}"]


def home_of(key: str) -> str:
    """Where a misplaced key belongs, or which key may have been meant."""
    options = file_options()
    names = {alias: name for name, info in options.items() for alias in (name, *facts_of(info).aliases)}
    if key in names:
        return f" It belongs in {' or '.join(TABLES[level] for level in facts_of(options[names[key]]).levels)}."
    if key in DataOptions.model_fields:
        return f" It is no part of a dataset file: give it on the command line as --{key}, or in the configuration."
    if key in COMMAND_LINE_ELSEWHERE:
        return " In sd-scripts it belongs on the command line; it is not built here yet."
    return did_you_mean(key, ["batch_size", *options])
