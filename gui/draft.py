"""What stands in the form: kept by the browser, checked here."""

import json
import logging
import shlex
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator

from backend.config.commands import fields_of
from backend.config.config import Config, Layer, merge_readable
from backend.config.door import Prepared, check_everything
from backend.config.option import facts_of
from backend.faults import FaultList, Faults

LONGEST = 1 << 18  # characters of a draft
PRESET = "_preset"
NAMES = ("output_name", "log_prefix")  # become part of a path
log = logging.getLogger("darkroom")


@dataclass(frozen=True)
class Draft:
    """Fields by option name, as written, and the preset that they began with."""

    fields: dict[str, Any] = field(default_factory=dict)
    preset: str = ""

    def given(self, defaults: dict[str, Any]) -> dict[str, Any]:
        """The fields that say something else than the default."""
        return {name: value for name, value in self.fields.items() if not same(value, defaults[name])}


@dataclass(frozen=True)
class Checked:
    """What came of a draft."""

    config: Config
    prepared: Prepared | None
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def read_draft(written: str | None, defaults: dict[str, Any]) -> Draft:
    """The draft that a browser sent; what is no field of ours is dropped."""
    try:
        found = json.loads((written or "{}")[:LONGEST])
    except ValueError:
        found = {}
    if not isinstance(found, dict):
        return Draft()
    fields = {name: value for name, value in found.items() if name in defaults and isinstance(value, (str, bool, int, float))}
    preset = found.get(PRESET)
    return Draft(fields, preset if isinstance(preset, str) else "")


def same(one: Any, other: Any) -> bool:
    """Whether two fields say the same, blanks at the ends aside."""
    return str(one).strip() == str(other).strip()


def check(command: str, values: dict[str, Any], runs_dir: Path, allowed: list[Path] | None) -> Checked:
    """Everything that can be said of these values before a run. allowed: the only folders that paths may lead to; None: any."""
    faults = FaultList()
    config = merge_readable(command, [Layer({**values, "runs_dir": str(runs_dir)})], faults)
    if allowed is not None:
        strays = list(outside(command, config, allowed))
        # What a guest may not see is not looked at either.
        if strays:
            return Checked(config, None, [*faults.messages, *strays])
    with heard() as warnings:
        try:
            prepared = check_everything(config, faults.messages)
        except Faults as raised:
            return Checked(config, None, raised.messages, warnings)
    return Checked(config, prepared, [], [*warnings, *prepared.warnings])


def outside(command: str, config: Config, allowed: list[Path]) -> Iterator[str]:
    """A sentence for every option that leads, or may lead, out of the allowed folders."""
    roots = [Path(root).resolve() for root in allowed]
    for name, (_, info) in fields_of(command).items():
        value = config.values().get(name)
        if name in NAMES and value and ("/" in value or "\\" in value or ".." in value):
            yield f"{name} is {value}, but it must be a name without folders on a shared page."
        if not facts_of(info).path or not value or name in ("runs_dir", "run_dir"):
            continue
        if name == "dataset_config":
            yield "dataset_config may name any folder, so it cannot be used on a shared page. Give train_data_dir."
        elif not any(Path(value).resolve().is_relative_to(root) for root in roots):
            yield f"{name} is {value}, but this page is shared and may only use {', '.join(map(str, roots))}."


@contextmanager
def heard() -> Iterator[list[str]]:
    """What is logged as a warning in this thread while the block runs."""
    found: list[str] = []
    keeper = Ear(found, threading.get_ident())
    log.addHandler(keeper)
    try:
        yield found
    finally:
        log.removeHandler(keeper)


class Ear(logging.Handler):
    """Keeps the warnings of one thread."""

    def __init__(self, found: list[str], thread: int):
        super().__init__(logging.WARNING)
        self.found, self.thread = found, thread

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a warning."""
        if record.thread == self.thread:
            self.found.append(record.getMessage())


def command_line(command: str, config: Config, names: list[str]) -> str:
    """The command that does the same, with a flag for each of these options."""
    words = ["./setup.sh", command]
    for name in names:
        value = config.values()[name]
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--{name}=false")
        elif isinstance(value, list):
            words += [f"--{name}", *map(str, value)]
        else:
            words += [f"--{name}", "" if value is None else str(value)]
    return shlex.join(words)
