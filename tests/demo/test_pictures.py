"""The demo's pictures are whole, varied, and the same every time."""

from pathlib import Path

import numpy as np
from PIL import Image

from backend.demo.pictures import NAVY, ORANGE, SCENES, make_demo_pictures, make_demo_prompts
from backend.sampling.prompts import read_prompts


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_there_are_twelve_captioned_pictures_in_a_training_folder(tmp_path):
    folder = make_demo_pictures(tmp_path)
    assert folder == tmp_path / "10_sks emblem"
    pictures = sorted(folder.glob("*.png"))
    assert len(pictures) == 12
    captions = [path.with_suffix(".caption").read_text(encoding="utf-8") for path in pictures]
    assert all(caption.startswith("sks emblem, ") for caption in captions)
    assert len(set(captions)) == 12


def test_captions_can_have_another_ending(tmp_path):
    folder = make_demo_pictures(tmp_path, ".txt")
    assert len(list(folder.glob("*.txt"))) == 12 and not list(folder.glob("*.caption"))


def test_the_pictures_are_the_same_bytes_every_time(tmp_path):
    assert files_of(make_demo_pictures(tmp_path / "a")) == files_of(make_demo_pictures(tmp_path / "b"))


def test_making_them_again_leaves_nothing_else_behind(tmp_path):
    first = files_of(make_demo_pictures(tmp_path))
    (tmp_path / "10_sks emblem" / "stray.png").write_bytes(b"")
    assert files_of(make_demo_pictures(tmp_path)) == first
    assert [path.name for path in tmp_path.iterdir()] == ["10_sks emblem"]


def test_there_are_several_shapes_and_all_show_the_emblem_where_the_scene_says(tmp_path):
    pictures = [Image.open(path) for path in sorted(make_demo_pictures(tmp_path).glob("*.png"))]
    assert len({picture.width > picture.height for picture in pictures}) == 2
    assert len({picture.size for picture in pictures}) == 3
    for picture, scene in zip(pictures, SCENES):
        seen = np.asarray(picture.convert("RGB")).astype(int)
        ground = (abs(seen - NAVY).sum(2) < 12) | (abs(seen - ORANGE).sum(2) < 12)
        y, x = np.nonzero(ground)
        radius = scene.radius * min(scene.size)
        assert abs(x.mean() - scene.at[0] * scene.size[0]) < 2 and abs(y.mean() - scene.at[1] * scene.size[1]) < 2
        assert abs((x.max() - x.min() + 1) / 2 - radius) < 2


def test_the_prompts_can_be_read(tmp_path):
    prompts = read_prompts(make_demo_prompts(tmp_path / "prompts.txt"))
    assert [(prompt.text[:10], prompt.seed) for prompt in prompts] == [("sks emblem", 1), ("sks emblem", 2)]
