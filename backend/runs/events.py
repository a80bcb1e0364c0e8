"""What happened in a run: one JSON object a line, written by the trainer and read by anyone.

Kinds: see KINDS. Every event has `time` (seconds since 1970) and `kind`; what belongs to a step has `step`.
"""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

KINDS = ("started", "planned", "step", "sample", "saving", "saved", "warning", "failed", "stopped", "resumed", "finished")
UNDONE_BY_RESUMING = ("step", "sample", "saving", "saved")  # a run that goes on from step n has not yet done what came after n


class EventWriter:
    """Appends events to a file. A kill at any instant leaves at most one torn line, at the end."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.torn = ends_torn(self.path)
        # O_BINARY exists on Windows only, where line ends would else be changed.
        self.handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o644)

    def write(self, kind: str, **fields: Any) -> None:
        """Append one event; its `time` is now, unless given. Numbers that JSON does not know (NaN, infinity) are written as null."""
        if kind not in KINDS:
            raise ValueError(f"{kind} is no kind of event")
        event = {"time": round(time.time(), 3), "kind": kind, **fields}
        line = json.dumps(plain(event), ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
        if self.torn:
            line = b"\n" + line
        # One write for the whole line, so that a reader or a kill cannot come between its halves.
        self.torn = os.write(self.handle, line) < len(line)

    def close(self) -> None:
        """Let go of the file; a second time does nothing."""
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1

    def __enter__(self) -> "EventWriter":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


def ends_torn(path: Path) -> bool:
    """Whether the file's last line lacks its end."""
    try:
        with open(path, "rb") as file:
            if file.seek(0, os.SEEK_END) == 0:
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except FileNotFoundError:
        return False


def plain(value: Any) -> Any:
    """The value as JSON knows it."""
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if hasattr(value, "item"):  # numpy's numbers
        return plain(value.item())
    return str(value)


def read_events(path: Path) -> list[dict]:
    """The events of a run in order; torn lines, and what a resumed run took back, left out. No file: no events."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        return []
    events: list[dict] = []
    for line in data.split(b"\n"):
        event = whole_event(line)
        if event is None:
            continue
        if event["kind"] == "resumed":
            events = [past for past in events if not undone(past, event)]
        events.append(event)
    return events


def whole_event(line: bytes) -> dict | None:
    """The event that a line holds, or None for a torn one."""
    try:
        event = json.loads(line)
    except ValueError:  # also what is not UTF-8
        return None
    return event if isinstance(event, dict) and "kind" in event else None


def undone(past: dict, resumed: dict) -> bool:
    """Whether a run that goes on from the resumed step will do this again."""
    step, since = past.get("step"), resumed.get("step")
    return past["kind"] in UNDONE_BY_RESUMING and step is not None and since is not None and step > since
