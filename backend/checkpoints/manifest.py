"""Saved states from outside: their names, whether they are whole, and whether they belong to a config. Imports no torch."""

import json
import logging
import re
import time
from pathlib import Path
from typing import Any, Mapping

from backend.checkpoints.metadata import full_hash
from backend.config.option import facts_of
from backend.faults import Faults
from backend.files import UNFINISHED, put_back

log = logging.getLogger("darkroom")

MANIFEST = "manifest.json"
VERSION = 1
STATE_NAMES = "*-state"


def write_manifest(folder: Path, step: int, epoch: int, settings: Mapping[str, Any]) -> None:
    """Seal a state: the last file that is written to its folder, with every other file's size and hash."""
    files = {file.name: {"size": file.stat().st_size, "sha256": full_hash(file)} for file in sorted(folder.iterdir())}
    manifest = {"version": VERSION, "step": step, "epoch": epoch, "saved_at": time.time(), "files": files, "settings": dict(settings)}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def read_manifest(path: Path) -> dict[str, Any]:
    """A whole state's manifest: every file is there and is what was written. Raises Faults."""
    manifest = parse_manifest(Path(path))
    for name, written in manifest["files"].items():
        check_file(Path(path), name, written)
    return manifest


def parse_manifest(path: Path) -> dict[str, Any]:
    """A state's manifest as it stands, the files not looked at. Raises Faults."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        version, _ = manifest["version"], [manifest[key] for key in ("files", "step", "epoch", "settings")]
    except FileNotFoundError:
        raise Faults(f"resume: {path} is no state: it has no {MANIFEST}. Give a folder whose name ends with -state, or the folder that holds them.") from None
    except (ValueError, KeyError, TypeError):
        raise Faults(f"resume: {path} is damaged: its {MANIFEST} cannot be read. Give an older state.") from None
    if version != VERSION:
        raise Faults(f"resume: {path} is a state of version {version}, but this program reads version {VERSION}. Go on with the program that wrote it.")
    return manifest


def check_file(path: Path, name: str, written: Mapping[str, Any]) -> None:
    """Raises Faults where a file of a state is not what was written."""
    file = path / name
    if not file.is_file():
        raise Faults(f"resume: {path} is not whole: {name} is missing. Give an older state.")
    if file.stat().st_size != written["size"]:
        raise Faults(f"resume: {path} is not whole: {name} has {file.stat().st_size} bytes instead of {written['size']}. Give an older state.")
    if full_hash(file) != written["sha256"]:
        raise Faults(f"resume: {path} is damaged: {name} is not what was written. Give an older state.")


def find_state(path: Path | str, output_name: str = "") -> Path:
    """A state to go on from: the folder itself if it is one, or the newest whole one in it (highest step, then latest). Raises Faults.

    output_name: where several runs keep their states in one folder, those of this name come first.
    """
    path = Path(path)
    for folder in (path.parent, path):
        put_back(folder)
    if not path.is_dir():
        what = "a file, not a state folder" if path.exists() else "not there"
        raise Faults(f"resume: {path} is {what}. Give a folder whose name ends with -state, or the folder that holds them.")
    if (path / MANIFEST).exists() or path.match(STATE_NAMES):
        read_manifest(path)
        return path
    reasons = []
    found = [state for state in path.glob(STATE_NAMES) if state.is_dir() and not state.name.startswith(UNFINISHED)]
    own = re.compile(rf"({re.escape(output_name)}(-\d+|-step\d+)?|rolling-.*)-state")
    found = [state for state in found if own.fullmatch(state.name)] or found
    for state in sorted(found, key=newness, reverse=True):
        try:
            read_manifest(state)
        except Faults as faults:
            reasons += faults.messages
            continue
        for reason in reasons:
            log.warning("%s It is passed over.", reason)
        return state
    if reasons:
        raise Faults(*reasons)
    raise Faults(f"resume: {path} holds no state. Give a folder whose name ends with -state, or the folder that holds them.")


def newness(state: Path) -> tuple[float, float]:
    """Where a state stands in time, as far as it can be read: by step, then by when it was saved."""
    try:
        manifest = json.loads((state / MANIFEST).read_text(encoding="utf-8"))
        return float(manifest["step"]), float(manifest["saved_at"])
    except (OSError, ValueError, KeyError, TypeError):
        return -1.0, -1.0


def check_resume(config: Any) -> list[str]:
    """Why the state that resume names cannot go on with this config: each option that makes a difference and is another now."""
    if not config.saving.resume:
        return []
    try:
        settings = parse_manifest(find_state(config.saving.resume, config.saving.output_name))["settings"]
    except Faults as faults:
        return faults.messages
    return [message for group in config.groups.values() for message in differences(group, settings)]


def differences(group: Any, settings: Mapping[str, Any]) -> list[str]:
    """A sentence for each option of a group that a resumed run may not change, and that has changed."""
    messages = []
    for name, field in type(group).model_fields.items():
        now = getattr(group, name)
        if facts_of(field).may_change or name not in settings or settings[name] == now:
            continue
        # No seed given means any: the run goes on with the state's.
        if name == "seed" and now is None:
            continue
        messages.append(f"resume: the state was made with {name} {shown(settings[name])}, now {shown(now)}. Set {name} as it was, or start anew without resume.")
    return messages


def shown(value: Any) -> str:
    """A value as a person would write it."""
    if value is None or value == "" or value == []:
        return "not set"
    if isinstance(value, list):
        return " ".join(str(part) for part in value)
    return str(value)
