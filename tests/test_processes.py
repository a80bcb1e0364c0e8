"""Two processes take the steps that one takes with twice the batch, and resume exactly too."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.workshop import ROOT, as_flags, events, file_facts, tensors, train, workbench

# Where a true gradient is zero (before a norm, say) AdamW would make a full step of rounding noise; its eps keeps such noise small.
PLAIN = {"network_dropout": None, "network_args": ["conv_dim=2"], "optimizer_args": ["eps=1e-4"], "save_state": False, "max_train_steps": 5, "output_name": "cat"}


def start_two(options: dict, log: Path) -> subprocess.Popen:
    """The command in two processes on this machine."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0", "--rdzv_backend", "c10d",
              "--rdzv_endpoint", "127.0.0.1:0", "-m", "backend", "train_network", *as_flags(options)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with log.open("ab") as file:
        return subprocess.Popen(launch, cwd=ROOT, env=environment, stdout=file, stderr=file, start_new_session=True)


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("processes")
    return folder, workbench(folder)


def test_two_processes_equal_one_with_twice_the_batch(bench):
    folder, options = bench
    options = options | PLAIN
    assert train(options | {"train_batch_size": 4, "run_dir": str(folder / "one")}, folder / "one.log") == 0, (folder / "one.log").read_text()
    two = start_two(options | {"train_batch_size": 2, "run_dir": str(folder / "two")}, folder / "two.log")
    assert two.wait() == 0, (folder / "two.log").read_text()
    expected, got = tensors(folder / "one" / "cat.safetensors"), tensors(folder / "two" / "cat.safetensors")
    assert expected.keys() == got.keys()
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], atol=1e-5, rtol=0, err_msg=name)
    moved = [np.abs(tensor).max() for name, tensor in expected.items() if name.endswith("lora_up.weight")]
    assert np.median(moved) > 1e-4, "nothing was trained that could differ"
    losses = [[event["loss"] for event in events(folder / run) if event["kind"] == "step"] for run in ("one", "two")]
    np.testing.assert_allclose(losses[1], losses[0], atol=1e-5)


@pytest.fixture(scope="module")
def unbroken(bench) -> tuple[dict, str]:
    """Options of a run that saves at every step, and the hash of the file that two unbroken processes write with them."""
    folder, options = bench
    options = options | {"save_every_n_steps": 1, "save_state": True, "max_train_steps": 12, "output_name": "cat"}
    whole = start_two(options | {"run_dir": str(folder / "whole")}, folder / "whole.log")
    assert whole.wait() == 0, (folder / "whole.log").read_text()
    return options, file_facts(folder / "whole" / "cat.safetensors")["sshs_model_hash"]


def kill_two_and_resume(folder: Path, options: dict, seconds: float) -> str:
    """Kill both processes so long after their first step, and resume them to the end; returns the file's hash."""
    run, log = folder / "run", folder / "log.txt"
    folder.mkdir()
    broken = start_two(options | {"run_dir": str(run)}, log)
    while broken.poll() is None and not any(event["kind"] == "step" for event in events(run)):
        time.sleep(0.005)
    time.sleep(seconds)
    # The launcher's children are in sessions of their own.
    for process in [*psutil.Process(broken.pid).children(recursive=True), psutil.Process(broken.pid)]:
        process.kill()
    broken.wait()
    assert events(run)[-1]["kind"] != "finished", "the run ended before it was killed"
    if list(run.glob("cat-*-state/manifest.json")):
        options = options | {"run_dir": str(run), "resume": str(run)}
    else:
        run = folder / "again"
        options = options | {"run_dir": str(run)}
    resumed = start_two(options, log)
    assert resumed.wait() == 0, log.read_text()
    return file_facts(run / "cat.safetensors")["sshs_model_hash"]


def test_two_killed_and_resumed_processes_write_the_same_weights(bench, unbroken):
    options, expected = unbroken
    assert kill_two_and_resume(bench[0] / "killed", options, random.Random(1).uniform(0, 0.6)) == expected


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
def test_two_processes_killed_at_drawn_instants_write_the_same_weights(bench, unbroken, seed):
    options, expected = unbroken
    assert kill_two_and_resume(bench[0] / f"killed-{seed}", options, random.Random(seed).uniform(0, 0.6)) == expected
