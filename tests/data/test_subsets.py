"""Datasets from a file and from the names of folders."""

import json
import logging
import os
from pathlib import Path

import pytest

from backend.data.options import DataOptions
from backend.data.subsets import Subset, read_datasets
from backend.faults import Faults

FILE = """
[general]
enable_bucket = true
caption_extension = 'txt'
num_repeats = 3
flip_aug = true

[[datasets]]
resolution = 256
batch_size = 4
keep_tokens = 1
  [[datasets.subsets]]
  image_dir = 'cats'
  class_tokens = 'sks cat'
  num_repeats = 10
  shuffle_caption = true
  [[datasets.subsets]]
  image_dir = 'many cats'
  is_reg = true
  keep_tokens = 2
  flip_aug = false

[[datasets]]
resolution = [256, 320]
  [[datasets.subsets]]
  image_dir = 'dogs'
"""


def write(folder: Path, content: str, name: str = "dataset.toml") -> DataOptions:
    (folder / name).write_text(content, encoding="utf-8")
    return DataOptions(dataset_config=str(folder / name), train_batch_size=7, caption_dropout_rate=0.125)


def faults_of(options: DataOptions) -> list[str]:
    with pytest.raises(Faults) as caught:
        read_datasets(options)
    return caught.value.messages


def test_each_key_is_looked_up_from_the_inside_out(tmp_path):
    first, second = read_datasets(write(tmp_path, FILE))
    assert (first.resolution, first.batch_size, first.enable_bucket) == ((256, 256), 4, True)
    assert (second.resolution, second.batch_size, second.max_bucket_reso) == ((256, 320), 7, 1024)
    shared = {"caption_extension": ".txt", "caption_dropout_rate": 0.125}
    assert first.subsets == (
        Subset(Path("cats"), class_tokens="sks cat", num_repeats=10, shuffle_caption=True, keep_tokens=1, flip_aug=True, **shared),
        Subset(Path("many cats"), is_reg=True, num_repeats=3, keep_tokens=2, **shared))
    assert second.subsets == (Subset(Path("dogs"), num_repeats=3, flip_aug=True, **shared),)


def test_json_says_the_same_as_toml(tmp_path):
    import tomllib

    as_json = write(tmp_path, json.dumps(tomllib.loads(FILE)), "dataset.json")
    assert read_datasets(as_json) == read_datasets(write(tmp_path, FILE))


def test_null_in_json_falls_through_to_the_next_level(tmp_path):
    content = {"general": {"num_repeats": 5}, "datasets": [{"subsets": [{"image_dir": "cats", "num_repeats": None}]}]}
    assert read_datasets(write(tmp_path, json.dumps(content), "dataset.json"))[0].subsets[0].num_repeats == 5


def test_all_faults_of_a_file_are_told_at_once_with_their_level(tmp_path):
    said = faults_of(write(tmp_path, """
resolution = 512
[general]
image_dir = 'x'
enable_bucket = 'perhaps'
[[datasets]]
resolution = 'wide'
prior_loss_weight = 0.5
random_crop = true
color_aug = false
  [[datasets.subsets]]
  image_dir = 'cats'
  num_repeats = 'x'
  batch_size = 2
  keep_token = 1
  [[datasets.subsets]]
  class_tokens = 'dog'
"""))
    expected = [
        "dataset.toml: resolution stands at the top, where only [general] and [[datasets]] may. It belongs in [general] or [[datasets]].",
        "dataset.toml: general.image_dir is not an option of [general]. It belongs in [[datasets.subsets]].",
        'dataset.toml: general.enable_bucket is "perhaps", but must be true or false.',
        'dataset.toml: datasets[0].resolution is "wide", but must be a size such as 512, or a width and a height such as "512,768".',
        "dataset.toml: datasets[0].prior_loss_weight is not an option of [[datasets]]. It is no part of a dataset file: give it on the command line as"
        " --prior_loss_weight, or in the configuration.",
        "dataset.toml: datasets[0].random_crop is known to sd-scripts, but not built here yet. Leave it out.",
        'dataset.toml: datasets[0].subsets[0].num_repeats is "x", but must be a whole number.',
        "dataset.toml: datasets[0].subsets[0].batch_size is not an option of [[datasets.subsets]]. It belongs in [general] or [[datasets]].",
        "dataset.toml: datasets[0].subsets[0].keep_token is not an option of [[datasets.subsets]]. Did you mean keep_tokens?",
        "dataset.toml: datasets[0].subsets[1].image_dir is missing: name the folder that holds the pictures.",
    ]
    assert sorted(said) == sorted(expected)


@pytest.mark.parametrize("content, words", [
    ("", "datasets is missing"),
    ("[[datasets]]\nresolution = 64\n", "datasets[0].subsets is missing"),
    ("datasets = 3", "must be a list of tables"),
    ("[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'a'\nis_reg = true\n", "no folder of training pictures"),
    ("[[datasets]]\nresolution = 100\n[[datasets.subsets]]\nimage_dir = 'a'\n", "datasets[0]: resolution is 100x100"),
    ("[[datasets]]\nbatch_size = 2\ntrain_batch_size = 3\n[[datasets.subsets]]\nimage_dir = 'a'\n", "says again what batch_size says"),
    ("[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'a'\ncaption_separator = ''\n", "caption_separator is empty"),
    ('[[datasets]]\n[[datasets.subsets]]\nimage_dir = "C:\\hoge"\n', "needs single quotes"),
])
def test_a_file_that_makes_no_sense_is_told_why(tmp_path, content, words):
    assert any(words in fault for fault in faults_of(write(tmp_path, content)))


def test_a_missing_file_is_named(tmp_path):
    assert "nowhere.toml" in faults_of(DataOptions(dataset_config=str(tmp_path / "nowhere.toml")))[0]


@pytest.mark.skipif(os.name == "nt", reason="such a path is right there")
def test_a_windows_path_is_called_one(tmp_path):
    said = faults_of(write(tmp_path, "[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'C:\\hoge\\cats'\n"))
    assert len(said) == 1 and "Windows path" in said[0] and "/mnt/c/hoge/cats" in said[0]


def test_a_folder_given_twice_counts_once(tmp_path, caplog):
    content = "[[datasets]]\n" + "[[datasets.subsets]]\nimage_dir = 'cats'\nnum_repeats = {}\n"
    again = "[[datasets.subsets]]\nimage_dir = './cats/'\nnum_repeats = 9\n"
    with caplog.at_level(logging.WARNING, "darkroom"):
        dataset, = read_datasets(write(tmp_path, content.format(2) + again))
    assert [subset.num_repeats for subset in dataset.subsets] == [2]
    assert "given twice" in caplog.text


def test_repeats_below_one_leave_a_folder_out(tmp_path, caplog):
    content = "[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'a'\n[[datasets.subsets]]\nimage_dir = 'b'\nnum_repeats = 0\n"
    dataset, = read_datasets(write(tmp_path, content))
    assert [str(subset.image_dir) for subset in dataset.subsets] == ["a"] and "b is left out" in caplog.text


def folders(tmp_path: Path, *names: str) -> Path:
    for name in names:
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def test_folder_names_give_repeats_and_words(tmp_path, caplog):
    folders(tmp_path, "train/10_sks cat", "train/2_a_dog_b", "train/cats", "train/0_x", "train/-3_y", "train/5", "train/.git", "reg/1_cat")
    options = DataOptions(train_data_dir=str(tmp_path / "train"), reg_data_dir=str(tmp_path / "reg"), train_batch_size=3, keep_tokens=2)
    dataset, = read_datasets(options)
    found = [(subset.image_dir.name, subset.num_repeats, subset.class_tokens, subset.is_reg) for subset in dataset.subsets]
    assert found == [("10_sks cat", 10, "sks cat", False), ("2_a_dog_b", 2, "a_dog_b", False), ("5", 5, None, False), ("1_cat", 1, "cat", True)]
    assert dataset.batch_size == 3 and all(subset.keep_tokens == 2 for subset in dataset.subsets)
    assert all(f"folder {name} is left out" in caplog.text for name in ("cats", "0_x", "-3_y")) and ".git" not in caplog.text


def test_a_picture_folder_given_instead_of_its_parent_is_explained(tmp_path):
    folders(tmp_path, "train/10_sks cat", "loose")
    (tmp_path / "loose" / "a.PNG").write_bytes(b"x")
    said = faults_of(DataOptions(train_data_dir=str(tmp_path / "train" / "10_sks cat"), reg_data_dir=str(tmp_path / "loose")))
    assert f"give its parent, {tmp_path / 'train'}" in said[0]
    assert "reg_data_dir" in said[1] and "holds pictures itself" in said[1]


def test_missing_folders_are_all_named(tmp_path):
    said = faults_of(DataOptions(train_data_dir=str(tmp_path / "a"), reg_data_dir=str(tmp_path / "b")))
    assert "train_data_dir" in said[0] and "reg_data_dir" in said[1] and "no such folder" in said[1]


def test_this_module_leaves_torch_unloaded():
    import subprocess
    import sys

    code = "import sys, backend.data.records, backend.data.plan, backend.data.captions; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
