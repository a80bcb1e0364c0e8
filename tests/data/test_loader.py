"""Pictures, cache and loader: what arrives in the loop."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data as photographs

from backend.data.buckets import Geometry
from backend.data.cache import LatentCache
from backend.data.images import fit, sizes_of, to_tensor
from backend.data.loader import Loader
from backend.data.options import DataOptions
from backend.data.pictures import open_rgb
from backend.data.plan import Columns, RunPlan
from backend.data.records import scan
from backend.data.subsets import Dataset, Subset
from backend.faults import Faults
from backend.randomness import seed_for

NAMES = ("astronaut", "chelsea", "coffee", "rocket")
WORDS = "a photo, sks cat, on a table, soft light"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Eight photographs of several shapes, some with captions."""
    path = tmp_path_factory.mktemp("pictures")
    for number in range(8):
        photo = Image.fromarray(getattr(photographs, NAMES[number % 4])())
        photo.resize([(96, 96), (128, 80), (80, 130), (97, 101)][number % 4]).save(path / f"{number}.{['png', 'jpg'][number % 2]}")
        if number < 6:
            (path / f"{number}.caption").write_text(WORDS)
    return path


def records_of(folder: Path, **changes):
    options = dict(class_tokens="sks", num_repeats=2, shuffle_caption=True, caption_dropout_rate=0.2, flip_aug=True) | changes
    dataset = Dataset((96, 96), 2, True, 64, 128, 32, False, (Subset(folder, **options),))
    return scan([dataset], DataOptions())


def tokenize(captions: list[str]) -> dict[str, torch.Tensor]:
    """Stands for a tokenizer: the first eight characters as numbers."""
    return {"text_encoder": torch.tensor([[ord(letter) for letter in caption.ljust(8)[:8]] for caption in captions])}


def loaded(records, workers=0, done=0, processes=1, process=0, persistent=False, cache=None, steps=14):
    options = DataOptions(max_data_loader_n_workers=workers, persistent_data_loader_workers=persistent)
    plan = RunPlan(Columns.of(records), processes, 2, 5, max_train_steps=steps)
    return list(Loader(records, options, tokenize, 5, process, cache).steps(plan.steps(done)))


def samples(steps) -> list:
    """Every sample that counts, with all that was drawn for it, in order."""
    found = []
    for step, batches in steps:
        for batch in batches:
            for i in np.flatnonzero(batch.counts.numpy()):
                picture = batch.pixels if batch.pixels is not None else batch.latents
                found.append((step.number, batch.records[i], batch.seeds[i], batch.captions[i], batch.flipped[i], batch.sizes[i].tolist(),
                              batch.tokens["text_encoder"][i].tolist(), float(batch.loss_weights[i]), picture[i].numpy().tobytes()))
    return found


def test_workers_change_nothing(folder):
    records = records_of(folder)
    alone = samples(loaded(records, workers=0))
    assert len({sample[2] for sample in alone}) == len(alone)  # no two uses share their draws
    assert len({sample[3] for sample in alone}) > 5 and {sample[4] for sample in alone} == {True, False}
    assert samples(loaded(records, workers=2)) == alone
    assert samples(loaded(records, workers=2, persistent=True)) == alone


def test_a_restart_goes_on_with_the_same_batches(folder):
    records = records_of(folder)
    whole = loaded(records)
    for done in (3, 7):
        assert samples(loaded(records, workers=done % 2, done=done)) == samples(whole[done:])


def test_processes_share_the_batches_of_one(folder):
    records = records_of(folder)
    doubled = scan([Dataset((96, 96), 4, True, 64, 128, 32, False, records.subsets)], DataOptions())
    alone = loaded(doubled, steps=8)
    parts = [loaded(records, processes=2, process=process, steps=8) for process in (0, 1)]
    for one, first, second in zip(alone, *parts, strict=True):
        assert sorted(samples([one])) == sorted(samples([first]) + samples([second]))


def test_a_batch_holds_what_its_slots_promise(folder):
    records = records_of(folder)
    for step, batches in loaded(records, steps=3):
        assert len(batches) == len(step.micro_batches)
        for batch in batches:
            size = records.buckets[records.bucket[batch.records[0]]]
            count = len(batch.records)
            assert batch.pixels.shape == (count, 3, size.height, size.width) and batch.pixels.dtype == torch.float32
            assert -1 <= batch.pixels.min() and batch.pixels.max() <= 1 and batch.latents is None
            assert batch.tokens["text_encoder"].shape == (count, 8) and batch.sizes.shape == (count, 6)
            assert batch.counts.dtype == batch.loss_weights.dtype == torch.float32


def test_each_epoch_draws_captions_and_flips_anew(folder):
    steps = loaded(records_of(folder), workers=1, steps=24)
    drawn = [{(record, seed): (caption, flipped) for step, batches in steps if step.epoch == epoch for batch in batches
              for record, seed, caption, flipped in zip(batch.records, batch.seeds, batch.captions, batch.flipped)} for epoch in (1, 2, 3)]
    assert all(len(epoch) == 16 for epoch in drawn)  # eight pictures, each used twice
    seeds = [{seed for _, seed in epoch} for epoch in drawn]
    assert not seeds[0] & seeds[1] and not seeds[1] & seeds[2] and not seeds[0] & seeds[2]
    by_record = [sorted((record, *draw) for (record, _), draw in epoch.items()) for epoch in drawn]
    assert by_record[0] != by_record[1] != by_record[2] != by_record[0]


def test_the_seed_of_a_use_is_that_of_its_place(folder):
    for step, batches in loaded(records_of(folder), steps=12):
        for batch, parts in zip(batches, step.micro_batches, strict=True):
            repeats = parts[0].repeats.tolist()
            assert batch.seeds == [seed_for(5, "sample", step.epoch, record, repeat) for record, repeat in zip(batch.records, repeats)]


def test_captions_are_left_out_and_pictures_mirrored_at_their_rates_through_all_workers(tmp_path):
    for number in range(20):
        Image.new("RGB", (64, 64)).save(tmp_path / f"{number}.png")
    subset = Subset(tmp_path, class_tokens="sks", num_repeats=10, caption_dropout_rate=0.3, flip_aug=True)
    records = scan([Dataset((64, 64), 4, False, 64, 128, 8, False, (subset,))], DataOptions())
    found = samples(loaded(records, workers=2, steps=200))  # eight uses a step
    assert len(found) == 1600
    for epoch in range(8):  # each of 200 uses: 60 without words and 100 mirrored are wanted, standard deviations 6.5 and 7.1
        part = found[epoch * 200:(epoch + 1) * 200]
        assert 35 < sum(sample[3] == "" for sample in part) < 85
        assert 72 < sum(sample[4] for sample in part) < 128
    both = sum(sample[3] == "" and sample[4] for sample in found)
    assert 190 < both < 290  # the two draws know nothing of each other: 240 wanted, standard deviation 14


def test_datasets_bring_their_own_sizes_and_weights(tmp_path):
    for name in ("large", "small", "reg"):
        (tmp_path / name).mkdir()
        for number in range(4):
            Image.new("RGB", (100, 100)).save(tmp_path / name / f"{number}.png")
    large, small, reg = (Subset(tmp_path / name, class_tokens=name, is_reg=name == "reg") for name in ("large", "small", "reg"))
    records = scan([Dataset((128, 64), 1, False, 64, 128, 8, False, (large,)), Dataset((64, 64), 4, False, 64, 128, 8, False, (small, reg))],
                   DataOptions(prior_loss_weight=0.25))
    epoch = [batch for step, batches in loaded(records, steps=3) if step.epoch == 1 for batch in batches]
    assert sorted(tuple(batch.pixels.shape) for batch in epoch) == [(1, 3, 64, 128)] * 4 + [(4, 3, 64, 64)] * 2
    weights = {(caption, float(weight)) for batch in epoch for caption, weight in zip(batch.captions, batch.loss_weights)}
    assert weights == {("large", 1.0), ("small", 1.0), ("reg", 0.25)}


def test_the_global_random_state_is_left_alone(folder):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    loaded(records_of(folder), steps=2)
    assert torch.equal(torch.rand(3), expected)


def test_a_loop_that_stops_early_leaves_no_worker_behind(folder):
    import multiprocessing

    records = records_of(folder)
    plan = RunPlan(Columns.of(records), 1, 1, 5, max_train_steps=50)
    steps = Loader(records, DataOptions(max_data_loader_n_workers=2), tokenize, 5).steps(plan.steps())
    next(steps)
    assert multiprocessing.active_children()
    steps.close()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_vanished_since_the_scan_is_named(folder, tmp_path, workers):
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (96, 96), "red").save(tmp_path / name)
    records = records_of(tmp_path)
    (tmp_path / "b.png").unlink()
    with pytest.raises(Faults, match="b.png cannot be read any more: it is no longer there") as caught:
        loaded(records, workers=workers)
    assert "Traceback" not in str(caught.value)


def test_a_picture_that_changed_its_size_since_the_scan_is_named(tmp_path):
    Image.new("RGB", (96, 96)).save(tmp_path / "a.png")
    records = records_of(tmp_path)
    Image.new("RGB", (96, 64)).save(tmp_path / "a.png")
    with pytest.raises(Faults, match="is now 96x64 pixels, but was 96x96"):
        loaded(records)


@dataclass
class Gaussian:
    mean: torch.Tensor
    log_variance: torch.Tensor


def encode(pixels: torch.Tensor) -> Gaussian:
    """Stands for a VAE: the mean of each 8x8 block, and its negative."""
    mean = torch.nn.functional.avg_pool2d(pixels, 8)
    return Gaussian(mean, -mean)


def test_cached_latents_are_those_of_the_pictures_that_would_have_been_loaded(folder):
    records = records_of(folder)
    cache = LatentCache.build(records, encode, 3, "cpu")
    pairs = zip(loaded(records), loaded(records, workers=1, cache=cache), strict=True)
    for (_, fresh), (_, cached) in pairs:
        for one, other in zip(fresh, cached, strict=True):
            said = encode(one.pixels)
            assert other.pixels is None and other.captions == one.captions and other.flipped == one.flipped
            torch.testing.assert_close(other.latents, torch.cat([said.mean, said.log_variance], dim=1))


def test_every_picture_is_encoded_once_and_its_mirror_image_only_where_asked(folder):
    seen, told = [], []
    LatentCache.build(records_of(folder, flip_aug=False), lambda pixels: seen.append(len(pixels)) or encode(pixels), 3, "cpu",
                      lambda done, total: told.append((done, total)))
    assert sum(seen) == 8 and told[-1] == (8, 8) and max(seen) <= 3
    seen.clear()
    LatentCache.build(records_of(folder), lambda pixels: seen.append(len(pixels)) or encode(pixels), 3, "cpu")
    assert sum(seen) == 16


def test_the_size_of_encoding_batches_changes_nothing(folder):
    records = records_of(folder)
    one, four = (LatentCache.build(records, encode, size, "cpu") for size in (1, 4))
    for record in range(len(records)):
        for flipped in (False, True):
            torch.testing.assert_close(one.moments([record], [flipped]), four.moments([record], [flipped]))


def test_latents_that_are_not_finite_name_their_picture(tmp_path):
    for name, colour in (("good.png", "white"), ("bad.png", "black"), ("fine.png", "red")):
        Image.new("RGB", (96, 96), colour).save(tmp_path / name)

    def fails_on_black(pixels):
        said = encode(pixels)
        black = (pixels.flatten(1) == -1).all(dim=1)
        return Gaussian(said.mean, said.log_variance + torch.where(black, torch.nan, 0.0)[:, None, None, None])

    with pytest.raises(Faults, match=r"no finite numbers for \S+bad\.png\. A VAE"):
        LatentCache.build(records_of(tmp_path, flip_aug=False), fails_on_black, 3, "cpu")


def test_black_is_minus_one_and_white_is_one():
    picture = Image.new("RGB", (2, 1))
    picture.putpixel((1, 0), (255, 51, 0))
    assert to_tensor(picture).tolist() == [[[-1.0, 1.0]], [[-1.0, pytest.approx(-0.6)]], [[-1.0, -1.0]]]
    assert to_tensor(picture, flipped=True)[0].tolist() == [[1.0, -1.0]]


def test_the_crop_is_the_part_that_the_geometry_names():
    photo = Image.fromarray(photographs.coffee())  # 600x400
    cut = fit(photo, Geometry((600, 400), (37, 21), (64, 128)))
    assert np.array_equal(np.asarray(cut), photographs.coffee()[21:149, 37:101])


def test_sizes_tell_of_the_true_crop_and_its_mirror_image(tmp_path):
    Image.new("RGB", (201, 100)).save(tmp_path / "a.png")
    dataset = Dataset((64, 64), 1, False, 64, 128, 64, False, (Subset(tmp_path, class_tokens="x"),))
    records = scan([dataset], DataOptions())
    # 201x100 covers 64x64 as 129x64 (128.64): 65 columns too many, of which 32 fall away at the left and 33 at the right.
    assert sizes_of(records, 0, False) == [100, 201, 0, 32, 64, 64]
    assert sizes_of(records, 0, True) == [100, 201, 0, 33, 64, 64]


def test_pictures_of_every_mode_become_rgb(tmp_path):
    def opened(picture, name="a.png", **save):
        picture.save(tmp_path / name, **save)
        return open_rgb(tmp_path / name).getpixel((0, 0))

    assert opened(Image.new("RGBA", (4, 4), (10, 20, 30, 0))) == (10, 20, 30)
    assert opened(Image.new("LA", (4, 4), (77, 0))) == (77, 77, 77)
    assert opened(Image.new("L", (4, 4), 9)) == (9, 9, 9)
    assert opened(Image.new("1", (4, 4), 1)) == (255, 255, 255)
    assert opened(Image.fromarray(np.full((4, 4), 128 * 257, dtype=np.uint16))) == (128, 128, 128)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([200, 100, 50])
    assert opened(palette, transparency=b"\0") == (200, 100, 50)
    cmyk = opened(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "a.jpg", quality=100)
    assert np.abs(np.subtract(cmyk, (255, 0, 0))).max() <= 3
    animated = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    assert opened(animated[0], "a.webp", save_all=True, append_images=animated[1:], lossless=True) == (255, 0, 0)


def test_a_picture_that_lies_on_its_side_is_put_upright(tmp_path):
    photo = Image.fromarray(photographs.coffee()).resize((96, 64))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    photo.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(np.asarray(open_rgb(tmp_path / "a.png")), np.rot90(np.asarray(photo), -1))
