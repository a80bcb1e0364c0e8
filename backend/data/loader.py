"""Brings the batches of a plan to the loop, prepared by worker processes.

Each micro-batch travels to the workers as a complete description (epoch, records, repeats), and each draw comes from the place it names. So
workers share no state, and their number changes nothing but the speed.
"""

import logging
import os
import random
import signal
import sys
import threading
from collections import deque
from dataclasses import dataclass, field, replace
from itertools import chain, groupby
from typing import Callable, Iterable, Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from backend.data.batch import Batch
from backend.data.cache import LatentCache
from backend.data.captions import draw_caption
from backend.data.images import load_pixels, sizes_of
from backend.data.options import DataOptions
from backend.data.plan import MicroBatch, Step
from backend.data.records import Records
from backend.faults import Faults
from backend.randomness import seed_for

log = logging.getLogger("darkroom")

# Forked workers are the trainer's own children and so notice when it was killed; a fork server's would outlive it. None: the platform's way.
START = "fork" if sys.platform == "linux" else None

Tokenize = Callable[[list[str]], dict[str, Tensor]]


@dataclass(frozen=True)
class Description:
    """All that a worker needs to know of a micro-batch."""

    epoch: int
    micro_batch: MicroBatch


@dataclass(frozen=True)
class Broken:
    """What comes instead of a batch, when a worker meets something that the user can mend."""

    messages: tuple[str, ...]


class BatchReader(Dataset):
    """Makes batches from descriptions, all but tokens and cached latents. Lives in the workers."""

    def __init__(self, records: Records, seed: int, with_pixels: bool):
        self.records, self.seed, self.with_pixels = records, seed, with_pixels

    def __getitem__(self, description: Description) -> Batch | Broken:
        try:
            return self.read(description)
        except Faults as faults:  # as a value: a worker's exceptions arrive as traceback texts
            return Broken(tuple(faults.messages))

    def read(self, description: Description) -> Batch:
        """The batch, every draw of a sample taken from the sample's own seed."""
        part = description.micro_batch
        rows = [int(row) for row in part.records]
        seeds = [seed_for(self.seed, "sample", description.epoch, row, int(repeat)) for row, repeat in zip(rows, part.repeats)]
        flipped = [self.is_flipped(row, seed) for row, seed in zip(rows, seeds)]
        subsets = [self.records.subsets[self.records.subset[row]] for row in rows]
        return Batch(
            records=rows,
            seeds=seeds,
            counts=torch.from_numpy(part.counts.copy()),
            loss_weights=torch.from_numpy(self.records.loss_weight[rows]),
            captions=[draw_caption(self.records.caption[row], subset, seed) for row, subset, seed in zip(rows, subsets, seeds)],
            tokens={},
            sizes=torch.tensor([sizes_of(self.records, row, mirrored) for row, mirrored in zip(rows, flipped)]),
            flipped=flipped,
            pixels=torch.stack([load_pixels(self.records, row, mirrored) for row, mirrored in zip(rows, flipped)]) if self.with_pixels else None,
        )

    def is_flipped(self, row: int, seed: int) -> bool:
        """Whether this use of a picture is mirrored."""
        subset = self.records.subsets[self.records.subset[row]]
        return subset.flip_aug and random.Random(seed_for(seed, "flip")).random() < 0.5


class Loader:
    """The batches of one process."""

    def __init__(self, records: Records, options: DataOptions, tokenize: Tokenize, seed: int, process: int = 0, cache: LatentCache | None = None):
        self.reader = BatchReader(records, seed, with_pixels=cache is None)
        self.tokenize, self.process, self.cache = tokenize, process, cache
        self.workers = min(options.max_data_loader_n_workers, max(0, processor_threads() - 1))
        self.persistent = options.persistent_data_loader_workers

    def steps(self, steps: Iterable[Step]) -> Iterator[tuple[Step, list[Batch]]]:
        """Each step with this process's micro-batches. Closing the iterator, or leaving it by an error, ends the workers.

        Raises Faults where a picture cannot be read any more.
        """
        if self.persistent:
            yield from self.stretch(steps)
            return
        for _, epoch in groupby(steps, key=lambda step: step.epoch):
            yield from self.stretch(epoch)

    def stretch(self, steps: Iterable[Step]) -> Iterator[tuple[Step, list[Batch]]]:
        """Some steps in a row, prepared by one set of workers."""
        feed = Feed(steps, self.process)
        # A generator of its own, because the loader would draw from the global one.
        loader = DataLoader(self.reader, sampler=feed, batch_size=None, num_workers=self.workers, generator=torch.Generator(),
                            worker_init_fn=ignore_interrupts if self.workers else None, multiprocessing_context=START if self.workers else None)
        batches = begin(loader)
        try:
            while (first := fetch(batches)) is not None:
                step = feed.waiting.popleft()
                others = (fetch(batches) for _ in step.micro_batches[1:])
                yield step, [self.complete(batch) for batch in chain([first], others)]
        finally:
            del batches, loader  # this ends the workers

    def complete(self, batch: Batch | Broken) -> Batch:
        """The batch with tokens, and latents where they are cached: what the workers need not hold a copy of."""
        if isinstance(batch, Broken):
            raise Faults(*batch.messages)
        latents = self.cache.moments(batch.records, batch.flipped) if self.cache else None
        return replace(batch, tokens=self.tokenize(batch.captions), latents=latents)


@dataclass
class Feed:
    """Hands the descriptions of one process to the workers, and remembers the steps they belong to."""

    steps: Iterable[Step]
    process: int
    waiting: deque = field(default_factory=deque)

    def __iter__(self) -> Iterator[Description]:
        for step in self.steps:
            self.waiting.append(step)
            for parts in step.micro_batches:
                yield Description(step.epoch, parts[self.process])


def begin(loader: DataLoader) -> Iterator:
    """The loader's iterator, its workers started."""
    watches = hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGCHLD) if watches else None  # None also where it was not set by Python
    batches = iter(loader)
    # PyTorch's handler would raise amid whatever the main process does when a worker dies; it is noticed all the same when a batch is awaited.
    if before is not None:
        signal.signal(signal.SIGCHLD, before)
    return batches


def fetch(batches: Iterator) -> Batch | Broken | None:
    """The next batch, or None after the last."""
    try:
        return next(batches, None)
    except (RuntimeError, OSError, EOFError) as error:
        if not tells_of_death(error):
            raise
    # A value, because an error that is kept somewhere would keep the other workers alive.
    return Broken(("A process that prepares pictures was ended from outside, most often for lack of memory."
                   " Lower max_data_loader_n_workers (0 needs least).",))


def tells_of_death(error: Exception) -> bool:
    """Whether an error means that a worker is gone. What a worker itself raised begins with "Caught"."""
    torn = isinstance(error, (ConnectionError, EOFError, FileNotFoundError)) and not str(error).startswith("Caught")
    return torn or str(error).startswith("DataLoader worker (pid")


def ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches all processes of a terminal; the main one alone decides what it means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def processor_threads() -> int:
    """Processor threads that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
