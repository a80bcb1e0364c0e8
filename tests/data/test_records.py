"""What a scan finds: sizes, captions, bad files."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backend.data.options import DataOptions
from backend.data.pictures import BadPicture, measure
from backend.data.records import scan
from backend.data.subsets import Dataset, Subset
from backend.faults import Faults

SIDEWAYS = 6  # EXIF: turn by a quarter to see it upright


def picture(path: Path, width: int = 96, height: int = 64, **save) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(width * height).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **save)
    return path


def dataset_of(*subsets: Subset, **changes) -> Dataset:
    options = dict(resolution=(64, 64), batch_size=2, enable_bucket=True, min_bucket_reso=64, max_bucket_reso=128, bucket_reso_steps=8,
                   bucket_no_upscale=False)
    return Dataset(subsets=subsets, **options | changes)


def scanned(*subsets: Subset, options: DataOptions = DataOptions(), **changes):
    return scan([dataset_of(*subsets, **changes)], options)


def exif(orientation: int) -> Image.Exif:
    data = Image.Exif()
    data[0x0112] = orientation
    return data


def test_pictures_of_all_kinds_are_found_sorted_by_name(tmp_path):
    for name in ("b.png", "a.jpg", "D.WEBP", "c.bmp", "e.JPEG"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("hello")
    picture(tmp_path / "below" / "f.png")
    records = scanned(Subset(tmp_path))
    assert [Path(path).name for path in records.path] == ["D.WEBP", "a.jpg", "b.png", "c.bmp", "e.JPEG"]
    assert records.width.tolist() == [96] * 5 and records.height.tolist() == [64] * 5


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_a_picture_that_lies_on_its_side_is_measured_upright(tmp_path, name):
    assert measure(picture(tmp_path / name, 96, 64, exif=exif(SIDEWAYS))) == (64, 96)
    assert measure(picture(tmp_path / name, 96, 64, exif=exif(3))) == (96, 64)


def cut(name: str, share: float):
    def spoil(folder: Path) -> Path:
        path = picture(folder / name, 200, 150)
        path.write_bytes(path.read_bytes()[:int(path.stat().st_size * share)])
        return path
    return spoil


def written(name: str, content: bytes):
    def spoil(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name
    return spoil


def damaged_png(folder: Path) -> Path:
    path = picture(folder / "damaged.png", 200, 150)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path


def gif_under_another_name(folder: Path) -> Path:
    return picture(folder / "moving.gif").rename(folder / "moving.png")


def enormous_png(folder: Path) -> Path:
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    path = folder / "enormous.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    return path


BAD = [
    (written("zero.png", b""), "empty"), (written("text.png", b"I am words"), "not a picture"), (written("text.jpg", b"I am words"), "not a picture"),
    (cut("cut.png", 0.7), "cut short"), (cut("cut.jpg", 0.7), "cut short"), (cut("cut.webp", 0.7), "cut short"), (cut("cut.bmp", 0.7), "cut short"),
    (cut("end.png", 0.999), "cut short"), (cut("end.jpg", 0.999), "cut short"), (cut("start.jpg", 0.01), ""), (cut("start.png", 0.0005), ""),
    (damaged_png, "damaged"), (gif_under_another_name, "GIF"), (enormous_png, "pixels"),
]


@pytest.mark.parametrize("spoil, why", BAD)
def test_a_file_that_is_no_whole_picture_is_found_out(tmp_path, spoil, why):
    with pytest.raises(BadPicture) as caught:
        measure(spoil(tmp_path))
    assert why in str(caught.value) and str(caught.value)


def test_bad_files_are_left_out_with_their_reasons(tmp_path, caplog):
    picture(tmp_path / "good.png")
    for spoil, _ in BAD:
        spoil(tmp_path)
    records = scanned(Subset(tmp_path, class_tokens="x"))
    assert [Path(path).name for path in records.path] == ["good.png"]
    assert len(records.left_out) == len(BAD)
    assert f"{len(BAD)} of {len(BAD) + 1} pictures are left out" in caplog.text and "zero.png: the file is empty" in caplog.text


def test_strict_images_refuses_and_names_every_bad_file(tmp_path):
    picture(tmp_path / "good.png")
    paths = [spoil(tmp_path) for spoil, _ in BAD]
    with pytest.raises(Faults) as caught:
        scanned(Subset(tmp_path), options=DataOptions(strict_images=True))
    assert all(any(str(path) in message for message in caught.value.messages) for path in paths)


def test_a_jpeg_with_bytes_after_its_end_is_still_a_picture(tmp_path):
    path = picture(tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes() + b"a phone's own remarks" * 10)
    assert measure(path) == (96, 64)


def test_captions_come_from_their_file_then_from_class_tokens(tmp_path, caplog):
    for name in ("a", "b", "c"):
        picture(tmp_path / f"{name}.png")
    (tmp_path / "a.caption").write_text("\ufeff  a cat, ünïcode \r\nsecond line\n", encoding="utf-8")
    (tmp_path / "b.caption").write_text("\n\n  a dog\n", encoding="utf-8")
    records = scanned(Subset(tmp_path, class_tokens="sks cat"))
    assert records.caption == ["a cat, ünïcode", "a dog", "sks cat"]
    assert records.caption_source == ["file", "file", "class_tokens"]
    assert not caplog.records


def test_pictures_without_words_give_one_warning_that_counts_them(tmp_path, caplog):
    for number in range(5):
        picture(tmp_path / f"{number}.png")
    (tmp_path / "0.caption").write_text("a cat")
    records = scanned(Subset(tmp_path))
    assert records.caption == ["a cat", "", "", "", ""] and records.caption_source[1] == "none"
    assert len(caplog.records) == 1 and "4 of 5 pictures have no caption file" in caplog.text


@pytest.mark.parametrize("used, there", [(".caption", ".txt"), (".txt", ".caption")])
def test_captions_under_the_other_ending_are_told_of_even_with_class_tokens(tmp_path, caplog, used, there):
    for number in range(3):
        picture(tmp_path / f"{number}.png")
        (tmp_path / f"{number}{there}").write_text("a cat")
    scanned(Subset(tmp_path, class_tokens="sks", caption_extension=used))
    assert len(caplog.records) == 1 and f"3 pictures have no {used} file" in caplog.text and f"set caption_extension to {there}" in caplog.text


def test_faulty_captions_are_all_named(tmp_path):
    for name in ("a", "b", "c"):
        picture(tmp_path / f"{name}.png")
    (tmp_path / "a.caption").write_bytes("Kätzchen".encode("latin-1"))
    (tmp_path / "b.caption").write_text(" \n\n")
    with pytest.raises(Faults) as caught:
        scanned(Subset(tmp_path), Subset(tmp_path / "nowhere"))
    latin, empty, nowhere = caught.value.messages
    assert "a.caption" in latin and "byte 2" in latin and "UTF-8" in latin
    assert "b.caption" in empty and "empty" in empty
    assert "nowhere" in nowhere and "does not exist" in nowhere


def test_an_empty_folder_names_the_folders_in_it_that_hold_pictures(tmp_path):
    picture(tmp_path / "inside" / "a.png")
    with pytest.raises(Faults, match="no pictures.*Folders in it do hold some .inside."):
        scanned(Subset(tmp_path))


def test_a_folder_whose_pictures_are_all_bad_is_a_fault(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(Faults, match="none of its 1 pictures can be read .a.png: the file is empty."):
        scanned(Subset(tmp_path))


def test_buckets_and_weights_stand_in_the_columns(tmp_path):
    picture(tmp_path / "train" / "wide.png", 180, 100)
    picture(tmp_path / "train" / "square.png", 90, 90)
    picture(tmp_path / "reg" / "tall.png", 60, 160)
    records = scanned(Subset(tmp_path / "train", num_repeats=3), Subset(tmp_path / "reg", is_reg=True), resolution=(96, 96),
                      options=DataOptions(prior_loss_weight=0.25))
    # Area 9216 in steps of 8: 180:100 is nearer to 128x72 (1.78) than to 128x64 (2) or 120x72 (1.67).
    sizes = [(records.buckets[bucket].width, records.buckets[bucket].height) for bucket in records.bucket]
    assert sizes == [(96, 96), (128, 72), (64, 128)]
    assert records.loss_weight.tolist() == [1.0, 1.0, 0.25]
    assert records.num_repeats.tolist() == [3, 3, 1] and records.is_reg.tolist() == [False, False, True]
    assert records.geometry(1).resized == (130, 72)  # 129.6
    assert sorted(count for _, count in records.bucket_counts()) == [1, 1, 1]


def test_pictures_of_two_datasets_never_share_a_bucket(tmp_path):
    picture(tmp_path / "a" / "a.png", 64, 64)
    picture(tmp_path / "b" / "b.png", 64, 64)
    records = scan([dataset_of(Subset(tmp_path / "a")), dataset_of(Subset(tmp_path / "b"), batch_size=3)], DataOptions())
    assert len(set(records.bucket.tolist())) == 2 and records.dataset.tolist() == [0, 1]


def test_a_folder_in_two_datasets_is_looked_at_and_counted_once(tmp_path, caplog):
    picture(tmp_path / "a.png", 96, 64)
    picture(tmp_path / "b.png", 64, 96)
    (tmp_path / "b.txt").write_text("a cat")
    (tmp_path / "c.png").write_bytes(b"")
    records = scan([dataset_of(Subset(tmp_path)), dataset_of(Subset(tmp_path), resolution=(96, 96))], DataOptions())
    assert [Path(path).name for path in records.path] == ["a.png", "b.png"] * 2 and records.dataset.tolist() == [0, 0, 1, 1]
    assert records.left_out == [(str(tmp_path / "c.png"), "the file is empty")]
    left_out, captions = (record.message for record in caplog.records)
    assert "1 of 3 pictures are left out" in left_out and left_out.count("c.png") == 1
    assert "2 of 2 pictures have no caption file" in captions and "1 pictures have no .caption file, but have a .txt file" in captions


def test_a_caption_ends_at_a_line_end_and_nowhere_else(tmp_path):
    for name, content in (("a", "a cat\u2028on a mat\r\nmore"), ("b", "a\x0bdog\rmore")):
        picture(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.caption").write_bytes(content.encode("utf-8"))
    assert scanned(Subset(tmp_path)).caption == ["a cat\u2028on a mat", "a\x0bdog"]


def test_too_small_a_picture_is_enlarged_in_spite_of_no_upscale_and_told_of(tmp_path, caplog):
    picture(tmp_path / "a.png", 40, 100)
    picture(tmp_path / "b.png", 70, 70)
    records = scanned(Subset(tmp_path, class_tokens="x"), bucket_no_upscale=True, resolution=(128, 128))
    assert records.geometry(0).resized == (64, 160) and records.geometry(1).resized == (70, 70)
    assert "1 pictures are enlarged" in caplog.text


def test_the_fingerprint_knows_what_the_plan_depends_on_and_nothing_else(tmp_path):
    for folder in ("here", "there"):
        picture(tmp_path / folder / "a.png", 96, 64)
        picture(tmp_path / folder / "b.png", 64, 96)
    here = scanned(Subset(tmp_path / "here", class_tokens="x")).fingerprint()
    assert scanned(Subset(tmp_path / "there", class_tokens="x")).fingerprint() == here
    for change in ({"class_tokens": "other"}, {"flip_aug": True}, {"caption_dropout_rate": 0.1}, {"shuffle_caption": True}, {"keep_tokens": 1}):
        assert scanned(Subset(tmp_path / "here", **{"class_tokens": "x"} | change)).fingerprint() != here, change
    subset = Subset(tmp_path / "there", class_tokens="x")
    assert scanned(subset, batch_size=3).fingerprint() != here
    assert scanned(subset, resolution=(96, 96)).fingerprint() != here
    assert scanned(Subset(tmp_path / "there", num_repeats=2)).fingerprint() != here
    (tmp_path / "there" / "a.png").rename(tmp_path / "there" / "c.png")
    assert scanned(subset).fingerprint() != here
