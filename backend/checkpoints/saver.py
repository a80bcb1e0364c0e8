"""Writes what is due: weights to take home, states to go on from; and removes what is kept no longer."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from backend.checkpoints.keep import outdated, state_name, weights_name
from backend.checkpoints.options import SavingOptions
from backend.checkpoints.state import State, save_state
from backend.files import remove_folder, sweep_unfinished


@dataclass
class Saver:
    """Saves for one run. Used by the first process alone."""

    options: SavingOptions
    output_dir: Path
    rolling_dir: Path  # the run's own folder
    report: Any  # has saving(path, step) and saved(path, step)
    write_weights: Callable[[Path, int, int], None]  # path, step, epoch
    capture: Callable[[int, int], State]  # step, epoch
    written: list[str]  # paths that this run, or what it goes on from, wrote; only these are ever removed

    def __post_init__(self):
        # From here on names in output_dir. In another folder the same names may be another run's.
        self.home = self.output_dir.resolve()
        self.written = [Path(path).name for path in self.written if Path(path).parent == self.home]
        self.rolled_at = time.monotonic()
        for folder in {self.output_dir, self.rolling_dir}:
            if folder.is_dir():
                sweep_unfinished(folder)

    def save(self, step: int, epoch: int, by: str) -> None:
        """Weights, and a state if asked for, of this epoch or step (by: "epoch" or "step"); then remove what they make outdated."""
        place = {"epoch": epoch} if by == "epoch" else {"step": step}
        self.save_weights(weights_name(self.options, **place), step, epoch)
        if self.options.save_state:
            self.save_state(self.output_dir / state_name(self.options, **place), step, epoch)
        for name in outdated(self.written, self.options, **place):
            self.remove(name)

    def finish(self, step: int, epoch: int) -> Path:
        """The final weights, and a state if asked for; returns the path of the weights. Rolling states stay until the end is told."""
        path = self.save_weights(weights_name(self.options), step, epoch)
        if self.options.save_state or self.options.save_state_on_train_end:
            self.save_state(self.output_dir / state_name(self.options), step, epoch)
        return path

    def stop(self, step: int, epoch: int) -> Path:
        """A state of this step, for a run that was asked to stop; returns its path."""
        path = self.output_dir / state_name(self.options, step=step)
        if path.exists() and path.name not in self.written and not self.options.overwrite:
            path = self.rolling_dir / path.name  # that name is another run's
        self.save_state(path, step, epoch)
        self.remove_rolling_states(but=path)
        return path

    def roll(self, step: int, epoch: int) -> None:
        """Renew the rolling state if it is older than allowed."""
        seconds = self.options.rolling_state_minutes * 60
        if not seconds or time.monotonic() - self.rolled_at < seconds:
            return
        # Each has a name of its own, so that there is a whole one at every instant.
        path = self.rolling_dir / f"rolling-step{step:08d}-state"
        self.write_state(path, step, epoch)
        self.remove_rolling_states(but=path)
        self.rolled_at = time.monotonic()

    def save_weights(self, name: str, step: int, epoch: int) -> Path:
        """Write weights under a name in output_dir."""
        path = self.output_dir / name
        self.note(name)
        self.report.saving(path, step)
        self.write_weights(path, step, epoch)
        self.report.saved(path, step)
        return path

    def save_state(self, path: Path, step: int, epoch: int) -> None:
        """Write a state folder that stays until it is outdated."""
        if path.parent == self.output_dir:
            self.note(path.name)
        self.write_state(path, step, epoch)

    def write_state(self, path: Path, step: int, epoch: int) -> None:
        """Write a state folder."""
        self.report.saving(path, step)
        state = self.capture(step, epoch)
        state.extras["written"] = [str(self.home / name) for name in self.written]
        save_state(path, state)
        self.report.saved(path, step)

    def note(self, name: str) -> None:
        """Remember a name as this run's own."""
        if name not in self.written:
            self.written.append(name)

    def remove(self, name: str) -> None:
        """Remove a file or state that this run wrote."""
        self.written.remove(name)
        path = self.output_dir / name
        remove_folder(path) if path.is_dir() else path.unlink(missing_ok=True)

    def remove_rolling_states(self, but: Path | None = None) -> None:
        """Remove the rolling states, once there is something newer."""
        for path in self.rolling_dir.glob("rolling-step*-state"):
            # An output_name may be just so that the run's other states are called like these.
            if path != but and path.name not in self.written:
                remove_folder(path)
