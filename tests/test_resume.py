"""A run that was killed, or stopped, and resumed ends with the same tensors as one that was not."""

import json
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tests.workshop import as_flags, events, file_facts, start, tensors, train, workbench

KINDS_AFTER_STEP = ("step", "saving", "saved", "sample")


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> tuple[Path, dict]:
    """A folder, and options for a run with chance of every kind in it that saves a state every second step."""
    folder = tmp_path_factory.mktemp("resume")
    options = workbench(folder) | {"save_every_n_steps": 2, "save_state": True, "output_name": "cat", "max_train_steps": 12,
                                   "sample_prompts": str(folder / "prompts.txt"), "sample_every_n_steps": 5}
    return folder, options


@pytest.fixture(scope="module")
def unbroken(bench) -> str:
    """The hash of the file that an unbroken run writes."""
    folder, options = bench
    log = folder / "unbroken.log"
    assert train(options | {"run_dir": str(folder / "unbroken")}, log) == 0, log.read_text()
    return file_facts(folder / "unbroken" / "cat.safetensors")["sshs_model_hash"]


def kill_and_resume(folder: Path, options: dict, chance: random.Random, while_saving: bool) -> tuple[str, bool]:
    """Kill a run with -9 once it steps (or while it saves), resume it to the end; returns the file's hash and whether the kill fell between saving and saved."""
    run, log = folder / "run", folder / "log.txt"
    folder.mkdir()
    words = ["train_network", *as_flags(options | {"run_dir": str(run)})]
    child = start(words, log)
    wait_for(child, run, lambda kinds: "step" in kinds, log)
    if while_saving:
        skipped = chance.randrange(3)
        wait_for(child, run, lambda kinds: kinds[-1] == "saving" and kinds.count("saving") > skipped, log)
        time.sleep(chance.random() * 0.004)
    else:
        time.sleep(chance.random() * 1.5)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    kinds = [event["kind"] for event in events(run)]
    caught = last_of(kinds, ("saving", "saved")) == "saving"
    has_state = any((found / "manifest.json").exists() for found in run.glob("cat*-state"))
    again = options | {"run_dir": str(run)} | ({"resume": str(run)} if has_state else {"run_dir": str(folder / "again")})
    assert train(again, log) == 0, log.read_text()
    made = Path(again["run_dir"]) / "cat.safetensors"
    return file_facts(made)["sshs_model_hash"], caught


def wait_for(child, run: Path, condition, log: Path) -> None:
    """Watch a run's events until they satisfy the condition, or the run ends."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        kinds = [event["kind"] for event in events(run)]
        if kinds and condition(kinds) or not child.is_alive():
            return
        time.sleep(0.0005)
    raise TimeoutError(log.read_text())


def last_of(kinds: list[str], wanted: tuple[str, ...]) -> str | None:
    """The last of these kinds."""
    return next((kind for kind in reversed(kinds) if kind in wanted), None)


def check_kills(bench, unbroken: str, times: int, seed: int) -> None:
    """Kill so many runs, two of three while they save, with 0 and 2 workers in turn; each must end as the unbroken one."""
    folder, options = bench
    chance, caught = random.Random(seed), 0
    for number in range(times):
        workers = {"max_data_loader_n_workers": 2 * (number % 2)}
        ended, in_between = kill_and_resume(folder / f"kill-{seed}-{number}", options | workers, chance, number % 3 != 2)
        assert ended == unbroken, f"kill {number}"
        caught += in_between
    assert caught * 3 >= times, f"only {caught} of {times} kills fell between saving and saved"


def test_a_killed_and_resumed_run_writes_the_same_weights(bench, unbroken):
    check_kills(bench, unbroken, times=4, seed=1)


@pytest.mark.slow
def test_twenty_killed_and_resumed_runs_write_the_same_weights(bench, unbroken):
    check_kills(bench, unbroken, times=20, seed=2)


def test_another_seed_writes_other_weights(bench, unbroken):
    folder, options = bench
    run = folder / "other-seed"
    assert train(options | {"run_dir": str(run), "seed": 4}, folder / "other.log") == 0
    assert file_facts(run / "cat.safetensors")["sshs_model_hash"] != unbroken


def test_ctrl_c_stops_with_a_state_that_resumes_to_the_same_weights(bench, unbroken):
    folder, options = bench
    run, log = folder / "ctrl-c", folder / "ctrl-c.log"
    without_states = options | {"save_state": False, "save_every_n_steps": None, "run_dir": str(run)}
    child = start(["train_network", *as_flags(without_states)], log)
    wait_for(child, run, lambda kinds: "step" in kinds, log)
    os.kill(child.pid, signal.SIGINT)
    child.join()
    assert child.exitcode == 130, log.read_text()
    stopped = events(run)[-1]
    assert stopped["kind"] == "stopped" and stopped["step"] < 12
    assert not (run / "cat.safetensors").exists()
    assert "Traceback" not in log.read_text()
    assert train(without_states | {"resume": str(run)}, log) == 0, log.read_text()
    assert file_facts(run / "cat.safetensors")["sshs_model_hash"] == unbroken


def test_a_run_that_was_resumed_goes_on_counting(bench, unbroken):
    folder, options = bench
    run = folder / "counting"
    assert train(options | {"run_dir": str(run), "max_train_steps": 6}, folder / "counting.log") == 0
    longer = options | {"run_dir": str(run), "resume": str(run), "max_train_steps": 12, "lr_scheduler": "cosine"}
    assert train(longer, folder / "counting.log") == 0, (folder / "counting.log").read_text()
    steps = [event["step"] for event in events(run) if event["kind"] == "step"]
    assert steps == list(range(1, 13))
    assert (run / "cat-step00000010.safetensors").exists()


def test_a_state_of_other_settings_is_refused_and_the_setting_named(bench, unbroken):
    folder, options = bench
    log = folder / "refused.log"
    code = train(options | {"resume": str(folder / "unbroken"), "network_dim": 8, "run_dir": str(folder / "refused")}, log)
    assert code == 2
    assert "network_dim" in log.read_text() and "Traceback" not in log.read_text()
    assert not (folder / "refused").exists()


def test_events_are_whole_lines_of_json(bench, unbroken):
    folder, _ = bench
    text = (folder / "unbroken" / "events.jsonl").read_text()
    kinds = [json.loads(line)["kind"] for line in text.splitlines()]
    assert kinds[:2] == ["started", "planned"] and kinds[-1] == "finished"
    assert kinds.count("step") == 12
    assert kinds.count("saving") == kinds.count("saved") > 5


def test_samples_do_not_change_training(bench, unbroken):
    folder, options = bench
    run = folder / "no-samples"
    assert train(options | {"run_dir": str(run), "sample_prompts": None, "sample_every_n_steps": None}, folder / "no-samples.log") == 0
    assert file_facts(run / "cat.safetensors")["sshs_model_hash"] == unbroken
    assert np.isfinite(next(iter(tensors(run / "cat.safetensors").values()))).all()
