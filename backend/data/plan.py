"""Which pictures are seen at which step: a pure function of the records, the seed and the epoch. Torch-free.

An epoch uses every training picture num_repeats times. Uses of one bucket are shuffled and cut into global batches (those of all processes
together); the batches of all buckets are shuffled; `accumulation` of them in a row make one step. So N processes see what one process with
N times the batch size sees.
"""

from dataclasses import dataclass
from typing import Any, Iterator

import numpy as np

from backend.data.balance import every_use, regularisation_of
from backend.data.records import Records
from backend.randomness import seed_for


@dataclass(frozen=True)
class Columns:
    """What the plan needs to know of each record. bucket: its group, of one dataset; batch_size: its dataset's."""

    dataset: np.ndarray
    bucket: np.ndarray
    batch_size: np.ndarray
    num_repeats: np.ndarray
    is_reg: np.ndarray

    @staticmethod
    def of(records: Records) -> "Columns":
        """The columns of records."""
        batch_size = np.array([dataset.batch_size for dataset in records.datasets], dtype=np.int64)[records.dataset]
        return Columns(records.dataset, records.bucket, batch_size, records.num_repeats, records.is_reg)


@dataclass(frozen=True)
class MicroBatch:
    """What one process computes at once."""

    records: np.ndarray  # int64 [B]
    repeats: np.ndarray  # int64 [B], which of its uses in the epoch, from 0
    counts: np.ndarray  # float32 [B], 1, or 0 where a sample only fills the batch up


@dataclass(frozen=True)
class Step:
    """One move of the weights."""

    number: int  # in the run, from 1
    epoch: int  # from 1
    index: int  # in the epoch, from 1
    micro_batches: list[list[MicroBatch]]  # [accumulation][process]
    count: float  # samples that count, over all micro-batches
    last_of_epoch: bool


def plan_epoch(columns: Columns, processes: int, accumulation: int, seed: int, epoch: int) -> list[Step]:
    """All steps of an epoch (from 1)."""
    return list(EpochPlans(columns, processes, accumulation, seed).steps(epoch))


def steps_in_epoch(columns: Columns, processes: int, accumulation: int, epoch: int) -> int:
    """How many steps an epoch has, without planning it."""
    return EpochPlans(columns, processes, accumulation, 0).length(epoch)


class EpochPlans:
    """The plans of all epochs of some records. What does not change from epoch to epoch is computed once."""

    def __init__(self, columns: Columns, processes: int, accumulation: int, seed: int):
        self.columns, self.processes, self.accumulation, self.seed = columns, processes, accumulation, seed
        training = np.flatnonzero(~columns.is_reg)
        self.training = every_use(training, columns.num_repeats[training])
        self.regularisation = [regularisation_of(columns, dataset) for dataset in np.unique(columns.dataset)]
        groups = int(columns.bucket.max()) + 1 if len(columns.bucket) else 0
        self.group_sizes = np.bincount(columns.bucket[self.training[0]], minlength=groups)
        batch_sizes = np.ones(groups, dtype=np.int64)
        batch_sizes[columns.bucket] = columns.batch_size
        self.global_sizes = batch_sizes * processes
        self.rotates = any(part.rotates for part in self.regularisation)

    def length(self, epoch: int) -> int:
        """Steps of an epoch."""
        return -(-self.batches(epoch) // self.accumulation)

    def batches(self, epoch: int) -> int:
        """Global batches of an epoch."""
        sizes = self.group_sizes.copy()
        for part in self.regularisation:
            sizes += np.bincount(self.columns.bucket[part.uses(epoch)[0]], minlength=len(sizes))
        return int((-(-sizes // self.global_sizes)).sum())

    def steps_before(self, epoch: int) -> int:
        """Steps of all epochs before this one."""
        if not self.rotates:  # then all epochs are alike
            return (epoch - 1) * self.length(1)
        return sum(self.length(earlier) for earlier in range(1, epoch))

    def steps(self, epoch: int, skip: int = 0, before: int | None = None) -> Iterator[Step]:
        """The steps of an epoch after its first `skip`; before: steps of all earlier epochs, where known."""
        batches = self.global_batches(epoch)
        length = -(-len(batches) // self.accumulation)
        before = self.steps_before(epoch) if before is None else before
        for index in range(skip, length):
            inside = batches[index * self.accumulation:(index + 1) * self.accumulation]
            count = float(sum(len(records) for records, _ in inside))
            cut = [cut_for_processes(records, repeats, self.processes) for records, repeats in inside]
            yield Step(before + index + 1, epoch, index + 1, cut, count, index + 1 == length)

    def global_batches(self, epoch: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """The epoch's global batches in order: records and repeats of each."""
        parts = [self.training, *(part.uses(epoch) for part in self.regularisation)]
        records, repeats = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        by_group = np.argsort(self.columns.bucket[records], kind="stable")
        records, repeats = records[by_group], repeats[by_group]
        groups, starts = np.unique(self.columns.bucket[records], return_index=True)
        batches = []
        for group, start, end in zip(groups, starts, [*starts[1:], len(records)]):
            order = start + permutation(end - start, self.seed, "order", epoch, group)
            size = self.global_sizes[group]
            batches += [(records[part], repeats[part]) for part in (order[i:i + size] for i in range(0, len(order), size))]
        return [batches[i] for i in permutation(len(batches), self.seed, "batches", epoch)]


def permutation(length: int, *place: int | str) -> np.ndarray:
    """The numbers below length in an order drawn for a place."""
    return np.random.Generator(np.random.PCG64(seed_for(*place))).permutation(length)


def cut_for_processes(records: np.ndarray, repeats: np.ndarray, processes: int) -> list[MicroBatch]:
    """A global batch as one micro-batch for each process, all of one length; what is missing repeats the last sample and does not count."""
    share = -(-len(records) // processes)
    place = np.arange(share * processes)
    inside = np.minimum(place, len(records) - 1)
    counts = (place < len(records)).astype(np.float32)
    parts = [slice(i * share, (i + 1) * share) for i in range(processes)]
    return [MicroBatch(records[inside[part]], repeats[inside[part]], counts[part]) for part in parts]


class RunPlan:
    """The steps of a whole run. max_train_epochs decides where it is given, else max_train_steps."""

    def __init__(self, columns: Columns, processes: int, accumulation: int, seed: int, max_train_steps: int, max_train_epochs: int | None = None):
        self.plans = EpochPlans(columns, processes, accumulation, seed)
        if max_train_epochs is not None:
            self.epochs = max_train_epochs
            self.total_steps = self.plans.steps_before(max_train_epochs + 1)
        else:
            self.total_steps = max_train_steps
            self.epochs = self.find(max_train_steps - 1)[0]

    def find(self, done: int) -> tuple[int, int]:
        """The epoch of the step after `done` steps, and the steps before that epoch."""
        if not self.plans.rotates:
            length = self.plans.length(1)
            return done // length + 1, done // length * length
        epoch, before = 1, 0
        while before + (length := self.plans.length(epoch)) <= done:
            epoch, before = epoch + 1, before + length
        return epoch, before

    def steps(self, done: int = 0) -> Iterator[Step]:
        """The steps of the run after the first `done`; earlier epochs are not gone through again."""
        if done >= self.total_steps:
            return
        epoch, before = self.find(done)
        skip = done - before
        while before + skip < self.total_steps:
            for step in self.plans.steps(epoch, skip, before):
                if step.number > self.total_steps:
                    return
                yield step
            before, epoch, skip = before + self.plans.length(epoch), epoch + 1, 0

    def describe(self) -> dict[str, Any]:
        """Figures for a report, of the first epoch where epochs differ."""
        plans, columns = self.plans, self.plans.columns
        return {
            "train_images": int((~columns.is_reg).sum()),
            "reg_images": int(columns.is_reg.sum()),
            "train_samples_per_epoch": len(plans.training[0]),
            "reg_samples_per_epoch": sum(len(part.uses(1)[0]) for part in plans.regularisation),
            "reg_samples_unused_per_epoch": sum(part.unused for part in plans.regularisation),
            "batches_per_epoch": plans.batches(1),
            "steps_per_epoch": plans.length(1),
            "epochs": self.epochs,
            "total_steps": self.total_steps,
        }
