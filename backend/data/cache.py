"""Latents of all pictures, encoded once and kept in memory."""

from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Iterator, Protocol, Sequence

import torch
from torch import Tensor

from backend.data.images import load_pixels
from backend.data.records import Records
from backend.faults import Faults

READERS = 4  # threads that read pictures for the encoder; Pillow decodes and resizes outside the interpreter's lock

Entry = tuple[int, bool]  # record, mirrored


class Gaussian(Protocol):
    """What the encoder says of pictures: mean and log-variance, each [B, C, h, w]."""

    mean: Tensor
    log_variance: Tensor


class LatentCache:
    """Mean and log-variance of every record's latents (and of its mirror image, where its subset asks for flips), float32 on the CPU.

    Not one draw but the distribution is kept, so that each use still gets a draw of its own. With several processes each keeps all.
    """

    def __init__(self, stores: list[Tensor], places: dict[Entry, tuple[int, int]]):
        self.stores, self.places = stores, places

    @staticmethod
    def build(records: Records, encode: Callable[[Tensor], Gaussian], batch_size: int, device: torch.device | str,
              progress: Callable[[int, int], None] | None = None) -> "LatentCache":
        """Encode each record once, pictures of one bucket together, batch_size at a time. progress(done, all) is told after each batch.

        Raises Faults where a picture cannot be read any more, or where its latents are not finite numbers.
        """
        batches = list(cut_by_bucket(records, batch_size))
        total = sum(map(len, batches))
        stores, places, done = [], {}, 0
        for batch, pixels in read_ahead(records, batches):
            with torch.no_grad():
                said = encode(pixels.to(device))
            moments = torch.cat([said.mean, said.log_variance], dim=1).float().cpu()
            check_finite(records, batch, moments)
            places.update({entry: (len(stores), row) for row, entry in enumerate(batch)})
            stores.append(moments)
            done += len(batch)
            if progress:
                progress(done, total)
        return LatentCache(stores, places)

    def moments(self, records: Sequence[int], flipped: Sequence[bool]) -> Tensor:
        """Mean and log-variance, raw, of records of one bucket: [B, 2C, h, w]."""
        found = [self.places[int(record), bool(mirrored)] for record, mirrored in zip(records, flipped)]
        return torch.stack([self.stores[store][row] for store, row in found])

    def bytes(self) -> int:
        """Memory taken."""
        return sum(store.numel() * store.element_size() for store in self.stores)


def cut_by_bucket(records: Records, batch_size: int) -> Iterator[list[Entry]]:
    """All that is to be encoded, in batches of one bucket each."""
    entries: dict[int, list[Entry]] = {}
    for record in range(len(records)):
        mirrored = (False, True) if records.subsets[records.subset[record]].flip_aug else (False,)
        entries.setdefault(int(records.bucket[record]), []).extend((record, flipped) for flipped in mirrored)
    for bucket in sorted(entries):
        for start in range(0, len(entries[bucket]), batch_size):
            yield entries[bucket][start:start + batch_size]


def read_ahead(records: Records, batches: list[list[Entry]]) -> Iterator[tuple[list[Entry], Tensor]]:
    """Each batch with its pixels [B, 3, H, W]; the next one is read while this one is used."""
    with ThreadPoolExecutor(READERS) as pool:
        def begin(batch: list[Entry]) -> list:
            return [pool.submit(load_pixels, records, record, flipped) for record, flipped in batch]

        waiting = begin(batches[0]) if batches else []
        for number, batch in enumerate(batches):
            reading, waiting = waiting, begin(batches[number + 1]) if number + 1 < len(batches) else []
            yield batch, torch.stack([picture.result() for picture in reading])


def check_finite(records: Records, batch: list[Entry], moments: Tensor) -> None:
    """Raises Faults naming the pictures whose latents are not finite."""
    bad = [records.path[record] for (record, _), moment in zip(batch, moments) if not torch.isfinite(moment).all()]
    if bad:
        raise Faults(f"The VAE gave no finite numbers for {', '.join(bad)}. A VAE often fails so in 16 bits: try another VAE, or mixed_precision no.")
