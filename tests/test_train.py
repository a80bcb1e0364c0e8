"""A run as its user meets it: its folder, its requests, its troubles, and that it learns."""

import json
import os
import shutil
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest

from tests.workshop import as_flags, events, file_facts, start, tensors, train, workbench


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("train")
    return folder, workbench(folder) | {"output_name": "cat", "max_train_steps": 4}


@pytest.fixture(scope="module")
def finished(bench) -> Path:
    """A run in its own folder below runs."""
    folder, options = bench
    assert train(options | {"sample_prompts": folder / "prompts.txt", "sample_at_first": True, "sample_every_n_epochs": 1}, folder / "finished.log") == 0
    return next((folder / "runs").glob("*-cat"))


def model_hash(path: Path) -> str:
    return file_facts(path)["sshs_model_hash"]


def wait_for_step(child, run: Path) -> None:
    while child.is_alive() and not any(event["kind"] == "step" for event in events(run)):
        time.sleep(0.01)


def test_the_run_folder_holds_all_there_is_to_know(finished):
    names = {path.name for path in finished.iterdir()}
    assert {"config.toml", "events.jsonl", "log.txt", "samples", "tensorboard", "cat.safetensors"} <= names
    assert "trainer.json" not in names, "the folder is still claimed"
    assert not [name for name in names if name.startswith(".unfinished")]
    assert len(list((finished / "samples").glob("cat_*.png"))) == 1
    assert "Finished after 4 steps" in (finished / "log.txt").read_text()


def test_config_toml_runs_again_and_gives_the_same_file(bench, finished):
    folder, _ = bench
    written = tomllib.loads((finished / "config.toml").read_text())
    assert {"data", "training", "network", "optimizer"} <= written.keys()
    child = start(["train_network", "--config_file", str(finished / "config.toml"), "--run_dir", str(folder / "again")], folder / "again.log")
    child.join()
    assert child.exitcode == 0, (folder / "again.log").read_text()
    assert model_hash(folder / "again" / "cat.safetensors") == model_hash(finished / "cat.safetensors")


def test_curves_are_in_tensorboard(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves = EventAccumulator(str(finished / "tensorboard"))
    curves.Reload()
    assert {"loss/current", "loss/average", "lr/unet", "lr/text_encoder"} <= set(curves.Tags()["scalars"])
    told = [event["loss"] for event in events(finished) if event["kind"] == "step"]
    np.testing.assert_allclose([point.value for point in curves.Scalars("loss/current")], told, rtol=1e-6)


def test_a_seed_that_was_not_given_is_drawn_and_recorded(bench):
    folder, options = bench
    for run in ("drawn-1", "drawn-2"):
        assert train(options | {"seed": None, "run_dir": str(folder / run)}, folder / "drawn.log") == 0
    seeds = [tomllib.loads((folder / run / "config.toml").read_text())["training"]["seed"] for run in ("drawn-1", "drawn-2")]
    assert seeds[0] != seeds[1]
    assert train(options | {"seed": seeds[0], "run_dir": str(folder / "drawn-3")}, folder / "drawn.log") == 0
    hashes = [model_hash(folder / run / "cat.safetensors") for run in ("drawn-1", "drawn-2", "drawn-3")]
    assert hashes[0] == hashes[2] != hashes[1]


@pytest.mark.parametrize("request_name, reason", [("stop", "asked"), ("pause", "paused")])
def test_a_request_to_stop_or_pause_saves_a_state_and_is_taken_as_heard(bench, request_name, reason):
    folder, options = bench
    run, log = folder / request_name, folder / f"{request_name}.log"
    child = start(["train_network", *as_flags(options | {"run_dir": str(run), "max_train_steps": 3000})], log)
    wait_for_step(child, run)
    (run / request_name).touch()
    child.join(60)
    assert child.exitcode == 130, log.read_text()
    last = events(run)[-1]
    assert last["kind"] == "stopped" and last["reason"] == reason and (Path(last["state"]) / "manifest.json").exists()
    assert not (run / request_name).exists()


def test_save_now_and_sample_now_are_done_and_training_goes_on(bench):
    folder, options = bench
    run, log = folder / "now", folder / "now.log"
    child = start(["train_network", *as_flags(options | {"run_dir": str(run), "max_train_steps": 60, "sample_prompts": folder / "prompts.txt",
                                                         "sample_every_n_steps": 1000})], log)
    wait_for_step(child, run)
    (run / "save_now").touch()
    (run / "sample_now").touch()
    child.join(120)
    assert child.exitcode == 0, log.read_text()
    kinds = [event["kind"] for event in events(run)]
    assert kinds.count("sample") == 1 and kinds.count("saved") == 2
    assert len(list(run.glob("cat-step*.safetensors"))) == 1


def test_a_loss_that_is_not_finite_stops_the_run_and_saves_nothing_broken(bench):
    folder, options = bench
    run, log = folder / "nan", folder / "nan.log"
    wild = options | {"run_dir": str(run), "learning_rate": 1e30, "max_train_steps": 200, "max_grad_norm": 0, "lr_warmup_steps": 0, "lr_scheduler": "constant",
                      "save_every_n_steps": 1}
    assert train(wild, log) == 1
    said = log.read_text()
    assert "NaN" in said or "nan" in said or "inf" in said
    assert "Traceback" not in said
    assert events(run)[-1]["kind"] == "failed"
    for path in run.glob("*.safetensors"):
        assert all(np.isfinite(tensor).all() for tensor in tensors(path).values())
    assert not (run / "cat.safetensors").exists()


def test_only_the_newest_files_are_kept_and_strangers_stay(bench):
    folder, options = bench
    run, out = folder / "keep", folder / "keep-out"
    out.mkdir()
    for name in ("cat-step00000001.pt", "dog-step00000001.safetensors", "cat-000001.safetensors"):
        (out / name).write_bytes(b"somebody's")
    assert train(options | {"run_dir": str(run), "output_dir": str(out), "save_every_n_steps": 1, "save_last_n_steps": 1, "max_train_steps": 5,
                            "save_state": True}, folder / "keep.log") == 0, (folder / "keep.log").read_text()
    assert sorted(path.name for path in out.iterdir()) == [
        "cat-000001.safetensors", "cat-state", "cat-step00000001.pt", "cat-step00000004-state", "cat-step00000004.safetensors",
        "cat-step00000005-state", "cat-step00000005.safetensors", "cat.safetensors", "dog-step00000001.safetensors"]


def test_a_numbered_file_of_somebody_elses_is_not_overwritten(bench):
    folder, options = bench
    out = folder / "numbered"
    out.mkdir()
    (out / "cat-step00000002.safetensors").write_bytes(b"mine")
    changes = {"run_dir": str(folder / "numbered-run"), "output_dir": str(out), "save_every_n_steps": 2}
    assert train(options | changes, folder / "numbered.log") == 2
    assert "cat-step00000002.safetensors" in (folder / "numbered.log").read_text()
    assert (out / "cat-step00000002.safetensors").read_bytes() == b"mine"


def test_the_rolling_state_resumes_after_a_kill(bench):
    folder, options = bench
    run, log = folder / "rolling", folder / "rolling.log"
    options = options | {"run_dir": str(run), "max_train_steps": 30}
    child = start(["train_network", *as_flags(options | {"rolling_state_minutes": 1e-6})], log)
    while child.is_alive() and not list(run.glob("rolling-step*-state")):
        time.sleep(0.005)
    child.kill()
    child.join()
    assert not (run / "cat.safetensors").exists(), "the run ended before it was killed"
    assert train(options | {"resume": str(run)}, log) == 0, log.read_text()
    assert train(options | {"run_dir": str(folder / "rolling-whole")}, log) == 0
    assert model_hash(run / "cat.safetensors") == model_hash(folder / "rolling-whole" / "cat.safetensors")
    assert not list(run.glob("rolling-*")), "the rolling state outlived its use"


def test_changed_pictures_are_told_when_resuming(bench):
    folder, options = bench
    copy = folder / "copy"
    shutil.copytree(folder / "train", copy)
    options = options | {"train_data_dir": str(copy), "save_state": True}
    assert train(options | {"run_dir": str(folder / "pictures")}, folder / "pictures.log") == 0
    os.remove(next((copy / "2_sks cat").glob("*.png")))
    assert train(options | {"resume": str(folder / "pictures"), "max_train_steps": 8}, folder / "pictures.log") == 2
    assert "other pictures" in (folder / "pictures.log").read_text()


def test_an_over_fit_set_is_learned(bench):
    """Mean loss over the same sixteen draws of noise and time falls when the network trains on them for a while."""
    folder, options = bench
    run = folder / "learns"
    one = folder / "one" / "1_sks cat"
    one.mkdir(parents=True)
    shutil.copy(folder / "train" / "2_sks cat" / "photo_0.png", one)
    plain = {"train_data_dir": str(folder / "one"), "reg_data_dir": None, "flip_aug": False, "caption_dropout_rate": 0, "noise_offset": None, "network_dropout": None,
             "network_args": ["conv_dim=8"], "network_dim": 16, "network_alpha": 16, "learning_rate": 5e-3, "lr_scheduler": "constant", "lr_warmup_steps": 0,
             "min_snr_gamma": None, "train_batch_size": 1, "gradient_accumulation_steps": 4, "run_dir": str(run), "max_train_steps": 200, "cache_latents": True}
    assert train(options | plain, folder / "learns.log") == 0, (folder / "learns.log").read_text()
    losses = [event["loss"] for event in events(run) if event["kind"] == "step"]
    assert np.mean(losses[-40:]) < 0.9 * np.mean(losses[:20])


def test_several_data_sets_train_in_one_run(bench):
    """Each with its own resolution, batch size and words; every picture is used as often as its subset says."""
    folder, options = bench
    described = folder / "several.toml"
    described.write_text(f"""
[general]
enable_bucket = true
min_bucket_reso = 64
bucket_reso_steps = 32

[[datasets]]
resolution = 96
batch_size = 3
  [[datasets.subsets]]
  image_dir = '{folder}/train/2_sks cat'
  class_tokens = 'sks cat'
  num_repeats = 2
  flip_aug = true

[[datasets]]
resolution = [128, 64]
batch_size = 1
enable_bucket = false
  [[datasets.subsets]]
  image_dir = '{folder}/train/2_sks cat'
  caption_extension = '.none'
  class_tokens = 'wide cat'
""")
    run = folder / "several"
    changes = {"train_data_dir": None, "reg_data_dir": None, "dataset_config": str(described), "max_train_epochs": 1, "run_dir": str(run), "gradient_accumulation_steps": 1}
    assert train(options | changes, folder / "several.log") == 0, (folder / "several.log").read_text()
    planned = next(event for event in events(run) if event["kind"] == "planned")
    assert planned["train_samples_per_epoch"] == 6 * 2 + 6
    assert {(bucket["dataset"], bucket["width"], bucket["height"]) for bucket in planned["buckets"] if bucket["dataset"] == 1} == {(1, 128, 64)}
    facts = json.loads(file_facts(run / "cat.safetensors")["ss_datasets"])
    assert [dataset["batch_size_per_device"] for dataset in facts] == [3, 1]
