"""How often regularisation pictures are used, so that they balance the training pictures of their dataset. Torch-free."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Counted(Protocol):
    """What balancing needs to know of each record: columns of one length."""

    dataset: np.ndarray
    num_repeats: np.ndarray
    is_reg: np.ndarray


@dataclass(frozen=True)
class Regularisation:
    """The regularisation pictures of one dataset, in order.

    Each epoch uses as many as the training pictures of the dataset are used. Where there are more, each epoch goes on where the one before
    ended, so that all have their turn; where there are fewer, all are used alike often, and who is used once more changes in the same way.
    """

    records: np.ndarray  # int64
    repeats: np.ndarray  # int64, num_repeats of each
    wanted: int  # uses in an epoch

    @property
    def unused(self) -> int:
        """Uses that an epoch has no room for."""
        return max(0, int(self.repeats.sum()) - self.wanted) if len(self.records) else 0

    @property
    def rotates(self) -> bool:
        """Whether epochs differ in what they use."""
        surplus = self.wanted - int(self.repeats.sum())
        return bool(len(self.records)) and (surplus < 0 < self.wanted or (surplus > 0 and surplus % len(self.records) > 0))

    def uses(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Records and which use of each, for an epoch (from 1). Both int64."""
        records, numbers = every_use(self.records, self.repeats)
        surplus = self.wanted - len(records)
        if surplus == 0 or not len(records):
            return records, numbers
        if surplus < 0:
            turn = ((epoch - 1) * self.wanted + np.arange(self.wanted)) % len(records)
            return records[turn], numbers[turn]
        more, some = divmod(surplus, len(self.records))
        counts = self.repeats + more
        counts[((epoch - 1) * some + np.arange(some)) % len(self.records)] += 1
        return every_use(self.records, counts)


def regularisation_of(columns: Counted, dataset: int) -> Regularisation:
    """The regularisation pictures of a dataset and how many uses its training pictures ask for."""
    inside = columns.dataset == dataset
    records = np.flatnonzero(inside & columns.is_reg)
    wanted = int(columns.num_repeats[inside & ~columns.is_reg].sum(dtype=np.int64))
    return Regularisation(records, columns.num_repeats[records].astype(np.int64), wanted)


def every_use(records: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each record as often as its count says, and which use of it each is, from 0. Both int64."""
    counts = counts.astype(np.int64)
    starts = np.cumsum(counts) - counts
    return np.repeat(records, counts).astype(np.int64), np.arange(counts.sum(), dtype=np.int64) - np.repeat(starts, counts)
