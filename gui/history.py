"""The events of runs, read on from where the last look ended."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

from backend.runs.events import UNDONE_BY_RESUMING, undone, whole_event


@dataclass
class History:
    """One run's events so far. A torn last line waits until it is whole."""

    path: Path
    events: list[dict] = field(default_factory=list)
    read: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)  # many browsers look at once

    def look(self) -> list[dict]:
        """The events until now, without what a resumed run took back."""
        with self.lock:
            try:
                size = self.path.stat().st_size
            except OSError:
                size = 0
            if size < self.read:
                self.events, self.read = [], 0
            if size > self.read:
                self.read_on()
            return list(self.events)

    def read_on(self) -> None:
        """Take in the whole lines that were added."""
        with open(self.path, "rb") as file:
            file.seek(self.read)
            added = file.read()
        whole = added[:added.rfind(b"\n") + 1]
        self.read += len(whole)
        for line in whole.splitlines():
            event = whole_event(line)
            if event is None:
                continue
            if event["kind"] == "resumed":
                self.events = [past for past in self.events if past["kind"] not in UNDONE_BY_RESUMING or not undone(past, event)]
            self.events.append(event)


@dataclass(frozen=True)
class Progress:
    """What a run's page tells of it in figures."""

    step: int = 0
    total: int = 0
    epoch: int = 0
    epochs: int = 0
    speed: float = 0.0  # steps in a second
    loss: float | None = None
    rate: float | None = None

    @property
    def seconds_left(self) -> float | None:
        """Until the last step, at the present speed."""
        return (self.total - self.step) / self.speed if self.speed and self.total else None


def progress(events: list[dict]) -> Progress:
    """The figures of a run's events."""
    planned = next((event for event in reversed(events) if event["kind"] == "planned"), {})
    steps = [event for event in events if event["kind"] == "step"]
    total, epochs = planned.get("total_steps", 0), planned.get("epochs", 0)
    if not steps:
        return Progress(planned.get("first_step", 0), total, 0, epochs)
    last = steps[-1]
    rates = last.get("lr") or {}
    return Progress(last["step"], total, last.get("epoch", 0), epochs, speed(steps, planned), last.get("average"), next(iter(rates.values()), None))


def speed(steps: list[dict], planned: dict) -> float:
    """Steps in a second over the last ones of this part of the run."""
    recent = [event for event in steps[-50:] if event["time"] >= planned.get("time", 0)]
    seconds = recent[-1]["time"] - recent[0]["time"] if len(recent) > 1 else 0
    return (len(recent) - 1) / seconds if seconds > 0 else 0.0
