"""From files of all kinds to pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data as photographs

from backend.data.buckets import BucketRule
from backend.data.images import fit, load_pixels, to_tensor
from backend.data.options import DataOptions
from backend.data.pictures import BadPicture, measure, open_rgb
from backend.data.records import scan
from backend.data.subsets import Dataset, Subset

COFFEE = photographs.coffee()  # 400 rows, 600 columns
ORIENTATION = 0x0112
# How a picture is brought upright, by its EXIF orientation (CIPA DC-008, 4.6.4 A).
UPRIGHT = {
    1: lambda rows: rows, 2: np.fliplr, 3: lambda rows: np.rot90(rows, 2), 4: np.flipud,
    5: lambda rows: rows.transpose(1, 0, 2), 6: lambda rows: np.rot90(rows, -1), 7: lambda rows: np.rot90(rows, 2).transpose(1, 0, 2), 8: np.rot90,
}


def saved(path: Path, picture: Image.Image | np.ndarray, **save) -> Path:
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(path, **save)
    return path


def pixels(path: Path) -> np.ndarray:
    return np.asarray(open_rgb(path))


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("ending", ["png", "webp"])
def test_each_exif_orientation_is_put_upright_and_measured_so(tmp_path, orientation, ending):
    rows = COFFEE[:40, :60]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = saved(tmp_path / f"a.{ending}", rows, exif=exif, lossless=True)
    expected = UPRIGHT[orientation](rows)
    assert np.array_equal(pixels(path), expected)
    assert measure(path) == (expected.shape[1], expected.shape[0])


def test_a_palette_gives_its_colours_whatever_its_transparency_says(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)
    places = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = Image.fromarray(places).convert("P")
    picture.putpalette(colours.tobytes())
    for transparency in (7, bytes(range(256))):  # one clear colour; or an alpha for each
        assert np.array_equal(pixels(saved(tmp_path / "a.png", picture, transparency=transparency)), colours[places])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_colours_below_a_transparent_place_are_kept_as_the_file_has_them(tmp_path, mode):
    channels = len(mode) if mode == "LA" else 4
    values = np.random.default_rng(1).integers(0, 256, (9, 7, channels), dtype=np.uint8)
    path = saved(tmp_path / "a.png", Image.fromarray(values, mode))
    expected = values[..., :3] if mode == "RGBA" else np.repeat(values[..., :1], 3, axis=2)
    assert np.array_equal(pixels(path), expected)


def test_grey_of_16_bits_keeps_its_steps(tmp_path):
    values = np.linspace(0, 65535, 64 * 64).round().astype(np.uint16).reshape(64, 64)
    found = pixels(saved(tmp_path / "a.png", values))
    assert np.abs(found.astype(float) - values[..., None] / 65535 * 255).max() <= 1
    assert len(np.unique(found)) == 256


def test_grey_and_bits_become_three_equal_channels(tmp_path):
    grey = COFFEE[:20, :30, 0]
    assert np.array_equal(pixels(saved(tmp_path / "a.png", grey)), np.stack([grey] * 3, axis=2))
    bits = grey > 128
    assert np.array_equal(pixels(saved(tmp_path / "b.png", Image.fromarray(bits))), np.stack([bits * 255] * 3, axis=2))


def test_inks_become_the_light_that_they_leave(tmp_path):
    inks = np.zeros((32, 32, 4), dtype=np.uint8)
    inks[:] = (200, 40, 90, 60)
    light = (255 - inks[0, 0, :3].astype(float)) * (255 - 60) / 255
    found = pixels(saved(tmp_path / "a.jpg", Image.fromarray(inks, "CMYK"), quality=100))
    assert np.abs(found - light).max() <= 3


@pytest.mark.parametrize("ending", ["png", "webp"])
def test_of_a_moving_picture_the_first_is_taken(tmp_path, ending):
    first, *others = (Image.fromarray(COFFEE[row:row + 24, :32]) for row in (0, 100, 200))
    path = saved(tmp_path / f"a.{ending}", first, save_all=True, append_images=others, lossless=True)
    assert np.array_equal(pixels(path), COFFEE[:24, :32]) and measure(path) == (32, 24)


def test_a_file_that_breaks_only_when_it_is_decoded_is_no_picture_either(tmp_path):
    path = saved(tmp_path / "a.jpg", COFFEE)
    content = bytearray(path.read_bytes())
    start = content.index(b"\xff\xc0")  # the frame header: let it ask for a table that is not there
    content[start + 12] = 3
    path.write_bytes(content)
    with pytest.raises(BadPicture):
        open_rgb(path)


def lanczos(rows: np.ndarray, length: int) -> np.ndarray:
    """Rows brought to another number of rows by Lanczos' window of three lobes, widened where they become fewer (Turkowski 1990)."""
    scale = len(rows) / length
    centres = (np.arange(length) + 0.5) * scale
    distance = (np.arange(len(rows)) + 0.5 - centres[:, None]) / max(scale, 1)
    weights = np.where(np.abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0)
    return np.tensordot(weights / weights.sum(axis=1, keepdims=True), rows, axes=1)


@pytest.mark.parametrize("size, resized", [((192, 128), (192, 128)), ((128, 128), (192, 128)), ((640, 704), (1056, 704))])
def test_a_picture_is_resized_as_the_formula_says_and_its_middle_cut_out(size, resized):
    geometry = BucketRule(size).geometry(600, 400)
    found = np.asarray(fit(Image.fromarray(COFFEE), geometry), dtype=float)
    width, height = resized
    whole = lanczos(lanczos(COFFEE.astype(float), height).transpose(1, 0, 2), width).transpose(1, 0, 2).clip(0, 255)
    left = (width - size[0]) // 2
    difference = np.abs(found - whole[:, left:left + size[0]])
    # Pillow rounds, and clips, between its two passes.
    assert found.shape == (size[1], size[0], 3) and difference.mean() < 0.5 and np.quantile(difference, 0.999) <= 2


def test_loaded_pixels_are_the_cut_from_minus_one_to_one_and_mirrored_where_drawn(tmp_path):
    saved(tmp_path / "a.png", COFFEE[:64, :100])
    dataset = Dataset((64, 64), 1, False, 64, 128, 8, False, (Subset(tmp_path, class_tokens="x"),))
    records = scan([dataset], DataOptions())
    expected = COFFEE[:64, 18:82].transpose(2, 0, 1) / 127.5 - 1
    plain, mirrored = load_pixels(records, 0, False), load_pixels(records, 0, True)
    assert plain.dtype == mirrored.dtype == torch.float32 and plain.shape == (3, 64, 64)
    np.testing.assert_allclose(plain, expected, atol=1e-6)
    np.testing.assert_allclose(mirrored, expected[:, :, ::-1], atol=1e-6)


def test_every_level_of_a_channel_stays_apart():
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 256, 1).repeat(3, axis=2)
    levels = to_tensor(Image.fromarray(ramp))[0, 0]
    assert torch.equal(((levels + 1) * 127.5).round(), torch.arange(256.0)) and levels[0] == -1 and levels[-1] == 1
