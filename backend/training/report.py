"""What a run tells while it trains: progress on the terminal, curves for TensorBoard, events for the page."""

import logging
import math
import os
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, TextIO

from torch import Tensor

from backend.faults import Faults

log = logging.getLogger("darkroom")
FETCH_STEPS, FETCH_SECONDS = 10, 2.0  # how long losses may wait on the device
PLAIN_SECONDS = 30.0  # between two lines of progress where there is no terminal
COUNTER_SECONDS = 5.0  # between two lines of what comes before the steps
CURVES_SECONDS = 5  # between two writes of the TensorBoard log


class NonFiniteLoss(Faults):
    """The loss at `step` is not a number, or infinite: what is trained is lost."""

    def __init__(self, step: int, loss: float):
        super().__init__(
            f"The loss at step {step} is {loss}, so training cannot go on. Nothing was saved after it. "
            "Lower learning_rate, check the pictures, or train with mixed_precision=no.")
        self.step = step


@dataclass
class Pending:
    """A step whose loss is still on the device."""

    step: int
    epoch: int
    loss: Tensor
    learning_rates: dict[str, float]
    time: float


class Report:
    """Tells of a run. Losses are fetched from the device in one go every few steps, so that telling does not slow the GPU.

    events: has write(kind, **fields), such as an EventWriter; None tells nothing to the page. tensorboard: a folder, or None.
    stream: where progress is shown; None shows none.
    """

    def __init__(self, events: Any = None, tensorboard: Path | None = None, stream: TextIO | None = None):
        self.events = events
        self.tensorboard = tensorboard
        self.stream = stream
        self.curves: Any = None
        self.progress: Progress | None = None
        self.pending: list[Pending] = []
        self.recent: deque[float] = deque(maxlen=1)
        self.fetched = time.monotonic()
        self.to_events = WarningsAsEvents(events) if events else None
        if self.to_events:
            log.addHandler(self.to_events)

    @classmethod
    def silent(cls) -> "Report":
        """One that tells nothing but still finds losses that are not finite."""
        return cls()

    def planned(self, total_steps: int, steps_per_epoch: int, epochs: int, first_step: int = 0, **facts: Any) -> None:
        """Say how long the run is. first_step: steps that were done before it was resumed; facts: more for the event."""
        self.recent = deque(maxlen=max(1, steps_per_epoch))
        self.tell("planned", total_steps=total_steps, steps_per_epoch=steps_per_epoch, epochs=epochs, first_step=first_step, **facts)
        if self.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            # What a killed run wrote after the step it was saved at is taken back.
            purge = first_step + 1 if first_step else None
            self.curves = SummaryWriter(str(self.tensorboard), purge_step=purge, flush_secs=CURVES_SECONDS)
        if self.stream:
            self.progress = Progress(self.stream, total_steps, epochs)

    def step(self, step: int, epoch: int, loss: Tensor, learning_rates: dict[str, float]) -> None:
        """Note a step, both counted from 1. loss: one number, left on its device until the next fetch. Raises NonFiniteLoss by then."""
        self.pending.append(Pending(step, epoch, loss.detach(), learning_rates, time.time()))
        if self.progress:
            self.progress.moved(step, epoch)
        if len(self.pending) >= FETCH_STEPS or time.monotonic() - self.fetched >= FETCH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Fetch and tell what is pending. Raises NonFiniteLoss at the first step whose loss is not finite."""
        pending, self.pending = self.pending, []
        self.fetched = time.monotonic()
        if not pending:
            return
        for step, loss in zip(pending, fetch([step.loss for step in pending])):
            if not math.isfinite(loss):
                raise NonFiniteLoss(step.step, loss)
            self.recent.append(loss)
            self.tell_step(step, loss, sum(self.recent) / len(self.recent))

    def tell_step(self, step: Pending, loss: float, average: float) -> None:
        """Tell one step whose loss is known. average: over the last steps, an epoch of them at most."""
        self.tell("step", time=round(step.time, 3), step=step.step, epoch=step.epoch, loss=loss, average=average, lr=step.learning_rates)
        if self.progress:
            self.progress.loss = average
        if self.curves:
            scalars = {"loss/current": loss, "loss/average": average, **{f"lr/{name}": rate for name, rate in step.learning_rates.items()}}
            for name, value in scalars.items():
                self.curves.add_scalar(name, value, step.step, walltime=step.time)

    def counter(self, what: str) -> Callable[[int, int], None]:
        """Shows how far something is that comes before the steps: to be called with (done, all)."""
        told = time.monotonic()

        def show(done: int, total: int) -> None:
            nonlocal told
            now = time.monotonic()
            if self.stream and (done == total or now - told >= COUNTER_SECONDS):
                told = now
                print(f"{what}: {done} of {total}", file=self.stream, flush=True)

        return show

    def saving(self, path: Path, step: int) -> None:
        """Say that a file or a state is being written."""
        self.flush()
        self.tell("saving", path=path, step=step)

    def saved(self, path: Path, step: int, **facts: Any) -> None:
        """Say that a file or a state is there."""
        self.tell("saved", path=path, step=step, **facts)

    def sample(self, path: Path, prompt_index: int, step: int, **facts: Any) -> None:
        """Say that a sample picture is there."""
        self.flush()
        self.tell("sample", path=path, prompt_index=prompt_index, step=step, **facts)

    def warning(self, text: str) -> None:
        """Say something that the user should know."""
        log.warning(text)

    def tell(self, kind: str, **fields: Any) -> None:
        """Write one event of any other kind."""
        if self.events:
            self.events.write(kind, **fields)

    def close(self) -> None:
        """Take the progress bar down and write the curves out. Losses still pending are not told: flush first where the run went well."""
        if self.to_events:
            log.removeHandler(self.to_events)
        if self.progress:
            self.progress.close()
        if self.curves:
            self.curves.close()
        self.progress = self.curves = None


def fetch(losses: list[Tensor]) -> list[float]:
    """The numbers, brought from the device in one go."""
    import torch

    return torch.stack([loss.float().reshape(()) for loss in losses]).tolist()


class WarningsAsEvents(logging.Handler):
    """Makes an event of every warning that is logged, wherever it comes from."""

    def __init__(self, events: Any):
        super().__init__(logging.WARNING)
        self.events = events

    def emit(self, record: logging.LogRecord) -> None:
        """Write a warning; faults have events of their own."""
        if record.levelno != logging.WARNING:
            return
        try:
            self.events.write("warning", text=record.getMessage())
        except OSError:  # a full disk must not turn a warning into a crash
            self.handleError(record)


class Progress:
    """How far the run is: a bar on a terminal, elsewhere a line now and then."""

    def __init__(self, stream: TextIO, total_steps: int, epochs: int):
        self.stream = stream
        self.total, self.epochs = total_steps, epochs
        self.loss: float | None = None
        self.bar: Any = None
        self.opened = ExitStack()
        self.first: int | None = None  # the step that time is taken from

    def moved(self, step: int, epoch: int) -> None:
        """Show that a step is done."""
        now = time.monotonic()
        if self.first is None:
            # What came before the first step, such as encoding pictures, says nothing of the time still to go.
            self.first, self.began, self.told = step, now, now
            self.begin(step)
        if self.bar is not None:
            self.bar.set_description(f"epoch {epoch}/{self.epochs}", refresh=False)
            if self.loss is not None:
                self.bar.set_postfix_str(f"loss {self.loss:.4f}", refresh=False)
            self.bar.update(step - self.bar.n)
        elif step in (self.first, self.total) or now - self.told >= PLAIN_SECONDS:
            self.told = now
            print(self.line(step, epoch, now - self.began), file=self.stream, flush=True)

    def begin(self, step: int) -> None:
        """On a terminal, put up the bar."""
        from tqdm import tqdm
        from tqdm.contrib.logging import logging_redirect_tqdm

        if self.stream.isatty():
            # tqdm shows nothing on a terminal that says it has no lines, as those of containers may.
            self.bar = self.opened.enter_context(tqdm(
                total=self.total, initial=step, file=self.stream, unit="step", smoothing=0.1, dynamic_ncols=has_size(self.stream), nrows=24))
            # So that what is logged stands above the bar and not in it.
            self.opened.enter_context(logging_redirect_tqdm())

    def line(self, step: int, epoch: int, seconds: float) -> str:
        """Progress in words: step 120 of 1600, epoch 3 of 40, loss 0.1234, 2.10 steps/s, 11:45 left."""
        parts = [f"step {step} of {self.total}", f"epoch {epoch} of {self.epochs}"]
        if self.loss is not None:
            parts.append(f"loss {self.loss:.4f}")
        if seconds > 0 and step > self.first:
            speed = (step - self.first) / seconds
            left = round((self.total - step) / speed)
            parts += [f"{speed:.2f} steps/s", f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left"]
        return ", ".join(parts)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self.opened.close()


def has_size(stream: TextIO) -> bool:
    """Whether the terminal knows how large it is."""
    try:
        return os.get_terminal_size(stream.fileno()).lines > 0
    except (OSError, ValueError):
        return False
