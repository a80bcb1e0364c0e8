"""Rules between options, each with a case that breaks it and one that keeps it."""

import os

import pytest

from backend.checkpoints.manifest import write_manifest
from backend.config.config import make_config
from backend.config.rules import rule_faults, rule_warnings

TRAIN = "train_network"


def faults(**values):
    return rule_faults(make_config(TRAIN, values))


def warnings(**values):
    return rule_warnings(make_config(TRAIN, {"learning_rate": 1e-4, **values}))


def test_a_plain_config_breaks_no_rule():
    assert faults() == [] and warnings() == []


@pytest.mark.parametrize("broken, word, kept", [
    ({"network_train_unet_only": True, "network_train_text_encoder_only": True}, "nothing would be trained", {"network_train_unet_only": True}),
    ({"save_last_n_epochs": 2}, "give save_every_n_epochs too", {"save_last_n_epochs": 2, "save_every_n_epochs": 1}),
    ({"save_last_n_steps_state": 2, "save_every_n_epochs": 1}, "give save_every_n_steps too", {"save_last_n_steps_state": 2, "save_every_n_steps": 1}),
    ({"sample_every_n_steps": 5}, "no prompts", {"sample_every_n_steps": 5, "sample_prompts": "p.txt"}),
    ({"sample_at_first": True}, "no prompts", {"sample_sampler": "k_euler"}),
    ({"lr_warmup_steps": 10}, "choose constant_with_warmup", {"lr_warmup_steps": 10, "lr_scheduler": "constant_with_warmup"}),
    ({"lr_warmup_steps": 0.1}, "choose constant_with_warmup", {"lr_warmup_steps": 0.1, "lr_scheduler": "cosine"}),
    ({"lr_warmup_steps": 51, "max_train_steps": 50, "lr_scheduler": "cosine"}, "only 50 steps",
     {"lr_warmup_steps": 51, "max_train_steps": 50, "max_train_epochs": 9, "lr_scheduler": "cosine"}),
    ({"output_name": "a/b"}, "a name without folders", {"output_name": "a.b"}),
    ({"output_name": ""}, "a name without folders", {"output_name": "ä 1"}),
])
def test_a_broken_rule_is_told_once_and_a_kept_one_not(broken, word, kept):
    (told,) = faults(**broken)
    assert word in told
    assert faults(**kept) == []


def test_an_output_folder_cannot_be_a_file_or_lie_in_one(tmp_path):
    (tmp_path / "file").touch()
    assert faults(output_dir=str(tmp_path / "file")) == [f'output_dir is "{tmp_path}/file", which is a file, but must be a folder.']
    assert f"but {tmp_path}/file is a file" in faults(logging_dir=str(tmp_path / "file" / "deep" / "deeper"))[0]
    assert faults(output_dir=str(tmp_path / "new" / "deeper")) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_folder_must_be_writable(tmp_path):
    tmp_path.chmod(0o500)
    assert "nothing may be written" in faults(output_dir=str(tmp_path / "new"))[0]


def test_a_trained_file_is_not_lost(tmp_path):
    (tmp_path / "cat.safetensors").touch()
    here = {"output_dir": str(tmp_path), "output_name": "cat"}
    assert "cat.safetensors exists already" in faults(**here)[0]
    assert faults(**{**here, "output_name": "dog"}) == [] and faults(**here, save_model_as="pt") == []
    assert faults(**here, overwrite=True) == [] and faults(**here, resume=str(tmp_path)) == []


@pytest.mark.parametrize("settings", [{"output_dir": None, "run_folder": "{here}"}, {"output_dir": "{here}", "run_folder": "elsewhere"}])
def test_a_run_goes_on_over_its_own_files_but_not_over_another_run_s(tmp_path, settings):
    here, there = tmp_path / "here", tmp_path / "there"
    state = tmp_path / "state" / "cat-state"
    for folder in (here, there, state):
        folder.mkdir(parents=True)
    (here / "cat.safetensors").touch()
    (there / "cat.safetensors").touch()
    write_manifest(state, 1, 1, {name: value and value.replace("{here}", str(here)) for name, value in settings.items()})
    assert faults(resume=str(state), output_dir=str(here), output_name="cat") == []
    assert faults(resume=str(state), output_dir=str(there), output_name="cat", overwrite=True) == []
    (told,) = faults(resume=str(state), output_dir=str(there), output_name="cat")
    assert "cat.safetensors exists already" in told


def test_a_run_folder_that_was_moved_goes_on_over_its_own_files(tmp_path):
    (tmp_path / "cat-state").mkdir()
    (tmp_path / "cat.safetensors").touch()
    write_manifest(tmp_path / "cat-state", 1, 1, {"output_dir": None, "run_folder": "/where/it/was"})
    assert faults(resume=str(tmp_path / "cat-state"), run_dir=str(tmp_path), output_name="cat") == []


def test_the_command_that_began_from_a_network_goes_on_with_resume_added():
    assert faults(resume="s-state", network_weights="w.safetensors") == []


@pytest.mark.parametrize("odd, word, plain", [
    ({"sample_prompts": "p.txt"}, "nothing is drawn", {"sample_prompts": "p.txt", "sample_at_first": True}),
    ({"save_every_n_epochs": 1, "save_last_n_epochs_state": 1}, "save_state is off", {"save_every_n_epochs": 1, "save_last_n_epochs_state": 1, "save_state": True}),
    ({"keep_tokens": 1}, "keep_tokens is 1, which changes nothing while shuffle_caption is off", {"keep_tokens": 1, "shuffle_caption": True}),
    ({"log_prefix": "x"}, "while logging_dir is not given", {"log_prefix": "x", "logging_dir": "logs"}),
    ({"min_bucket_reso": 64}, "while enable_bucket is off", {"min_bucket_reso": 256}),
    ({"min_bucket_reso": 64}, "while enable_bucket is off", {"min_bucket_reso": 64, "dataset_config": "d.toml"}),
])
def test_what_is_hardly_meant_is_warned_of(odd, word, plain):
    (told,) = warnings(**odd)
    assert word in told
    assert warnings(**plain) == []


@pytest.mark.parametrize("values, parts", [
    ({}, "the UNet and the text encoder hardly learns"),
    ({"unet_lr": 1e-4}, "so the text encoder hardly learns"),
    ({"text_encoder_lr": [1e-4]}, "so the UNet hardly learns"),
])
def test_a_learning_rate_left_at_its_default_is_warned_of(values, parts):
    (told,) = rule_warnings(make_config(TRAIN, values))
    assert parts in told


@pytest.mark.parametrize("values", [
    {"learning_rate": 2e-6}, {"unet_lr": 1e-4, "text_encoder_lr": [1e-5]}, {"unet_lr": 1e-4, "network_train_unet_only": True}])
def test_a_learning_rate_that_was_chosen_is_not_warned_of(values):
    assert rule_warnings(make_config(TRAIN, values)) == []
