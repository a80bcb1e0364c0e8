"""Latents that are encoded once and kept."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data as photographs

from backend.data.cache import LatentCache
from backend.data.options import DataOptions
from backend.data.records import scan
from backend.data.subsets import Dataset, Subset
from backend.faults import Faults
from backend.models.model import LatentDistribution

SIZES = [(96, 96), (128, 72), (72, 128)]  # each the size of a bucket, so that pictures are neither resized nor cut


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Six parts of a photograph in three shapes, the shapes in turn."""
    path = tmp_path_factory.mktemp("pictures")
    for number in range(6):
        width, height = SIZES[number % 3]
        Image.fromarray(photographs.astronaut()[number * 30:number * 30 + height, number * 40:number * 40 + width]).save(path / f"{number}.png")
    return path


def records_of(folder: Path, flip_aug: bool = True):
    dataset = Dataset((96, 96), 2, True, 64, 128, 8, False, (Subset(folder, class_tokens="x", flip_aug=flip_aug),))
    return scan([dataset], DataOptions())


class Encoder(torch.nn.Module):
    """An uneven stride of 8 pixels: mirrored pictures get other latents than the mirror image of a picture's latents."""

    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 8, 8, stride=8)
        torch.nn.init.normal_(self.convolution.weight, generator=torch.Generator().manual_seed(3))
        self.given: list[tuple[int, ...]] = []

    def forward(self, pixels: torch.Tensor) -> LatentDistribution:
        self.given.append(tuple(pixels.shape))
        return LatentDistribution(*self.convolution(pixels).chunk(2, dim=1))


def expected(encoder: Encoder, folder: Path, record: int, flipped: bool) -> torch.Tensor:
    """What the encoder says of a picture that is read here, and mirrored here."""
    rows = np.asarray(Image.open(folder / f"{record}.png"))
    rows = np.fliplr(rows).copy() if flipped else rows
    with torch.no_grad():
        return encoder.convolution(torch.tensor(rows.transpose(2, 0, 1) / 127.5 - 1, dtype=torch.float32)[None])[0]


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_each_record_has_the_latents_of_its_picture_and_of_its_mirror_image(folder, batch_size):
    encoder = Encoder()
    cache = LatentCache.build(records_of(folder), encoder, batch_size, "cpu")
    for record in range(6):
        for flipped in (False, True):
            torch.testing.assert_close(cache.moments([record], [flipped])[0], expected(encoder, folder, record, flipped), atol=1e-4, rtol=1e-4)


def test_moments_come_in_the_order_that_is_asked_for(folder):
    cache = LatentCache.build(records_of(folder), Encoder(), 2, "cpu")
    asked = [(3, True), (0, False), (3, False), (0, False)]  # records of one bucket
    found = cache.moments(np.array([record for record, _ in asked]), [flipped for _, flipped in asked])
    assert found.shape == (4, 8, 12, 12)
    assert all(torch.equal(row, cache.moments([record], [flipped])[0]) for row, (record, flipped) in zip(found, asked))
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("batch_size", [1, 3])
def test_pictures_of_one_bucket_are_encoded_together_and_no_more_than_asked(folder, batch_size):
    encoder = Encoder()
    LatentCache.build(records_of(folder, flip_aug=False), encoder, batch_size, "cpu")
    counts = {shape: sum(count for count, *rest in encoder.given if tuple(rest) == shape) for shape in ((3, 96, 96), (3, 72, 128), (3, 128, 72))}
    assert set(counts.values()) == {2} and sum(counts.values()) == sum(count for count, *_ in encoder.given)
    assert len(encoder.given) == (6 if batch_size == 1 else 3)


def test_what_is_kept_is_float32_on_the_cpu_and_remembers_no_gradient(folder):
    encoder = Encoder().to(torch.bfloat16)
    cache = LatentCache.build(records_of(folder), lambda pixels: encoder(pixels.to(torch.bfloat16)), 2, "cpu")
    moments = cache.moments([0, 3], [False, True])
    assert moments.dtype == torch.float32 and moments.device.type == "cpu" and not moments.requires_grad
    # Six pictures and their mirror images, 8 channels, 12x12 or 16x9 latents of 4 bytes: 144 of them in each shape.
    assert cache.bytes() == 12 * 8 * 144 * 4


def test_each_batch_that_is_done_is_told(folder):
    told = []
    LatentCache.build(records_of(folder, flip_aug=False), Encoder(), 1, "cpu", lambda done, total: told.append((done, total)))
    assert told == [(done, 6) for done in range(1, 7)]


def test_a_mirror_image_is_kept_only_where_it_is_asked_for(folder):
    cache = LatentCache.build(records_of(folder, flip_aug=False), Encoder(), 4, "cpu")
    with pytest.raises(KeyError):
        cache.moments([0], [True])


def test_a_picture_that_vanished_before_it_was_encoded_is_named(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (96, 96), "red").save(tmp_path / name)
    records = records_of(tmp_path)
    (tmp_path / "b.png").unlink()
    with pytest.raises(Faults, match=r"b\.png cannot be read any more: it is no longer there"):
        LatentCache.build(records, Encoder(), 2, "cpu")


def test_all_pictures_of_a_batch_without_finite_latents_are_named(tmp_path):
    for name, colour in (("a.png", "white"), ("b.png", "black"), ("c.png", "white")):
        Image.new("RGB", (96, 96), colour).save(tmp_path / name)

    def overflows_on_white(pixels):
        mean = torch.where(pixels.amin(dim=(1, 2, 3)) == 1, torch.inf, 0.0)[:, None, None, None] + torch.zeros(len(pixels), 4, 12, 12)
        return LatentDistribution(mean, torch.zeros_like(mean))

    with pytest.raises(Faults, match=r"no finite numbers for \S+a\.png, \S+c\.png\."):
        LatentCache.build(records_of(tmp_path, flip_aug=False), overflows_on_white, 4, "cpu")
