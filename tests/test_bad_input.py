"""Bad input gets one clear message that names the thing, before anything slow starts; nothing is left half-written."""

import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.workshop import ROOT, as_flags, picture_folder
from tests.tiny import tiny_sd_checkpoint


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Path:
    """A model and a picture folder that are in order."""
    folder = tmp_path_factory.mktemp("bad")
    tiny_sd_checkpoint(folder / "tiny.safetensors")
    picture_folder(folder / "train" / "1_sks cat", count=2, captions="all")
    return folder


def good(bench: Path) -> dict:
    """Options with nothing wrong in them."""
    return {"pretrained_model_name_or_path": bench / "tiny.safetensors", "train_data_dir": bench / "train", "resolution": 64, "max_train_steps": 2}


def refused(folder: Path, words: list[str]) -> str:
    """Run the command, which must refuse before torch is loaded and leave nothing behind; returns what it said."""
    before = everything_in(folder)
    # A torch that cannot be imported: whoever tries dies with a traceback, which is a failure below.
    trap = folder.parent / f"{folder.name}-trap"
    trap.mkdir(exist_ok=True)
    (trap / "torch.py").write_text("raise RuntimeError('torch was loaded')\n")
    ended = subprocess.run([sys.executable, "-m", "backend", *map(str, words)], cwd=folder, capture_output=True, text=True, timeout=60,
                           env=os.environ | {"PYTHONPATH": f"{trap}{os.pathsep}{ROOT}"})
    said = ended.stdout + ended.stderr
    assert ended.returncode not in (0, None), said
    assert "Traceback" not in said, said
    assert everything_in(folder) == before, "something was written"
    return said


def everything_in(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*") if "__pycache__" not in path.parts}


def with_options(bench: Path, **changes) -> list[str]:
    return ["train_network", *as_flags(good(bench) | changes)]


def test_a_missing_model_is_named(bench):
    said = refused(bench, with_options(bench, pretrained_model_name_or_path=bench / "nowhere.safetensors"))
    assert "pretrained_model_name_or_path" in said and "nowhere.safetensors" in said


def test_no_model_at_all_is_told(bench):
    said = refused(bench, with_options(bench, pretrained_model_name_or_path=None))
    assert "pretrained_model_name_or_path" in said


def test_a_lora_given_as_model_is_recognised(bench, tmp_path):
    name = "lora_unet_down_blocks_0_attentions_0_proj_in"
    save_file({f"{name}.lora_down.weight": np.zeros((4, 8), np.float32), f"{name}.lora_up.weight": np.zeros((8, 4), np.float32),
               f"{name}.alpha": np.array(4.0, np.float32)}, tmp_path / "model.safetensors")
    said = refused(bench, with_options(bench, pretrained_model_name_or_path=tmp_path / "model.safetensors"))
    assert "LoRA" in said and "model.safetensors" in said


@pytest.mark.parametrize("name", ["random.safetensors", "random.ckpt", "empty.safetensors", "empty.ckpt"])
def test_a_file_that_is_no_model_is_named(bench, tmp_path, name):
    (tmp_path / name).write_bytes(b"" if name.startswith("empty") else np.random.default_rng(0).bytes(4096))
    assert name in refused(bench, with_options(bench, pretrained_model_name_or_path=tmp_path / name))


def test_a_truncated_model_is_named(bench, tmp_path):
    whole = (bench / "tiny.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(whole[:len(whole) // 2])
    assert "half.safetensors" in refused(bench, with_options(bench, pretrained_model_name_or_path=tmp_path / "half.safetensors"))


class RunsCode:
    """What an attacker would put into a checkpoint."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def test_a_ckpt_that_tries_to_run_code_is_refused_and_does_not(bench, tmp_path):
    mark = tmp_path / "ran"
    with zipfile.ZipFile(tmp_path / "evil.ckpt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"state_dict": {"model.diffusion_model.x": RunsCode(mark)}}, protocol=2))
        archive.writestr("archive/version", "3\n")
    said = refused(bench, with_options(bench, pretrained_model_name_or_path=tmp_path / "evil.ckpt"))
    assert "evil.ckpt" in said and "system" in said
    assert not mark.exists()


def test_missing_and_empty_picture_folders_are_named(bench, tmp_path):
    assert "gone" in refused(bench, with_options(bench, train_data_dir=tmp_path / "gone"))
    (tmp_path / "train" / "1_sks cat").mkdir(parents=True)
    said = refused(bench, with_options(bench, train_data_dir=tmp_path / "train"))
    assert "1_sks cat" in said and "picture" in said


def test_the_folder_itself_given_instead_of_its_parent_is_explained(bench):
    said = refused(bench, with_options(bench, train_data_dir=bench / "train" / "1_sks cat"))
    assert "1_sks cat" in said and str(bench / "train") in said


def test_strict_images_lists_every_unreadable_file(bench, tmp_path):
    folder = tmp_path / "train" / "1_sks cat"
    picture_folder(folder, count=2, captions="all")
    (folder / "zero.png").write_bytes(b"")
    (folder / "half.jpg").write_bytes((folder / "photo_1.jpg").read_bytes()[:600])
    (folder / "text.webp").write_text("I am not a picture")
    said = refused(bench, with_options(bench, train_data_dir=tmp_path / "train", strict_images=True))
    assert all(name in said for name in ("zero.png", "half.jpg", "text.webp"))


def test_a_caption_that_is_not_utf8_is_named(bench, tmp_path):
    folder = picture_folder(tmp_path / "train" / "1_sks cat", count=1, captions="none")
    (folder / "photo_0.caption").write_bytes("Kätzchen".encode("latin-1"))
    said = refused(bench, with_options(bench, train_data_dir=tmp_path / "train"))
    assert "photo_0.caption" in said and "UTF-8" in said


def test_an_unknown_option_names_the_nearest_right_one(bench, tmp_path):
    said = refused(bench, [*with_options(bench), "--learing_rate", "1"])
    assert "learing_rate" in said and "learning_rate" in said
    (tmp_path / "my.toml").write_text("learing_rate = 1e-4\n")
    said = refused(bench, [*with_options(bench), "--config_file", tmp_path / "my.toml"])
    assert "my.toml" in said and "Did you mean learning_rate" in said
    (tmp_path / "data.toml").write_text(f"[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dir = '{bench}/train/1_sks cat'\nnum_repeat = 2\n")
    said = refused(bench, with_options(bench, train_data_dir=None, dataset_config=tmp_path / "data.toml"))
    assert "data.toml" in said and "num_repeat" in said and "num_repeats" in said


@pytest.mark.parametrize("changes, words", [
    ({"learning_rate": -1}, ["learning_rate is -1", "0 or more"]),
    ({"learning_rate": "fast"}, ["learning_rate", "number"]),
    ({"max_train_steps": "2.5"}, ["max_train_steps", "whole number"]),
    ({"resolution": "wide"}, ["resolution"]),
    ({"resolution": 10}, ["resolution"]),
    ({"resolution": 100}, ["resolution", "100"]),
    ({"optimizer_type": "AdamW9"}, ["AdamW9", "AdamW"]),
    ({"optimizer_type": "Lion"}, ["Lion", "not built here yet"]),
    ({"lr_scheduler": "cosinus"}, ["cosinus", "cosine"]),
    ({"mixed_precision": "fp16"}, ["fp16", "not built here yet"]),
    ({"network_args": ["conv_dims=3"]}, ["conv_dims", "conv_dim"]),
    ({"network_args": ["conv_dim=x"]}, ["conv_dim"]),
    ({"optimizer_args": ["weight_decay"]}, ["optimizer_args", "weight_decay"]),
    ({"network_train_unet_only": True, "network_train_text_encoder_only": True}, ["network_train_unet_only", "network_train_text_encoder_only"]),
])
def test_a_value_that_cannot_be_is_named(bench, changes, words):
    said = refused(bench, with_options(bench, **changes))
    assert all(word in said for word in words), said


def test_wrong_types_in_a_toml_are_named(bench, tmp_path):
    (tmp_path / "my.toml").write_text('[training]\nmax_train_steps = "many"\nseed = [1]\n[x]\nflip_aug = "perhaps"\n')
    said = refused(bench, [*with_options(bench, max_train_steps=None), "--config_file", tmp_path / "my.toml"])
    assert all(name in said for name in ("max_train_steps", "seed", "flip_aug")), said


def test_an_option_that_is_not_built_says_so(bench, tmp_path):
    said = refused(bench, [*with_options(bench), "--xformers"])
    assert "xformers" in said and "not built here yet" in said
    (tmp_path / "my.toml").write_text("zero_terminal_snr = true\n")
    said = refused(bench, [*with_options(bench), "--config_file", tmp_path / "my.toml"])
    assert "zero_terminal_snr" in said and "not built here yet" in said


def test_an_output_folder_whose_parent_is_a_file_is_named(bench, tmp_path):
    (tmp_path / "taken").write_text("a file")
    said = refused(bench, with_options(bench, output_dir=tmp_path / "taken" / "out"))
    assert "output_dir" in said and "taken" in said


def test_a_file_that_would_be_overwritten_is_named(bench, tmp_path):
    (tmp_path / "cat.safetensors").write_bytes(b"mine")
    said = refused(bench, with_options(bench, output_dir=tmp_path, output_name="cat"))
    assert "cat.safetensors" in said and "overwrite" in said
    assert (tmp_path / "cat.safetensors").read_bytes() == b"mine"


def test_a_sample_prompt_that_cannot_be_read_is_named(bench, tmp_path):
    said = refused(bench, with_options(bench, sample_prompts=tmp_path / "gone.txt", sample_every_n_steps=1))
    assert "gone.txt" in said
    (tmp_path / "prompts.txt").write_text("# mine\na cat --w 64\na dog --w wide\na cow --s 0\n")
    said = refused(bench, with_options(bench, sample_prompts=tmp_path / "prompts.txt", sample_every_n_steps=1))
    assert "line 3" in said and "line 4" in said and "line 2" not in said


def test_a_resume_folder_that_is_no_state_is_named(bench, tmp_path):
    said = refused(bench, with_options(bench, resume=tmp_path))
    assert "resume" in said and str(tmp_path) in said


def test_all_faults_are_told_at_once(bench, tmp_path):
    said = refused(bench, with_options(bench, pretrained_model_name_or_path=tmp_path / "no-model", train_data_dir=tmp_path / "no-pictures",
                                       learning_rate=-1, sample_prompts=tmp_path / "no-prompts", sample_every_n_steps=1))
    assert all(name in said for name in ("no-model", "no-pictures", "no-prompts", "learning_rate")), said


def test_an_unknown_command_names_the_nearest(bench):
    assert "train_network" in refused(bench, ["train_netwrk"])
