"""What a run saves is never lost: not to a kill between two renames, not to a name, not to another run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from backend.checkpoints.manifest import find_state
from backend.checkpoints.options import SavingOptions
from backend.checkpoints.saver import Saver
from backend.checkpoints.state import State, load_state, save_state
from backend.checkpoints.weights import save_weights
from backend.files import UNFINISHED, sweep_unfinished
from backend.training.report import Report

ROOT = Path(__file__).resolve().parents[2]


def state(step: int) -> State:
    return State(step, 1, {"weight": torch.full((3,), float(step))}, {}, {})


def saver(output_dir: Path, run: Path, written: list[str] = [], **options) -> Saver:
    def write_weights(path: Path, step: int, epoch: int) -> None:
        save_weights(path, state(step).weights, {})

    return Saver(SavingOptions(**options), output_dir, run, Report.silent(), write_weights, lambda step, epoch: state(step), written)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Ends as a kill would, right before or after a rename, by the number of renames it has let pass.
KILLED = """
import os, sys, torch
from pathlib import Path
from backend.checkpoints.state import State, save_state
renames, real = [], os.replace
def replace(old, new):
    if Path(old).is_dir():
        renames.append(new)
        if len(renames) > int(sys.argv[2]):
            os._exit(9)
    real(old, new)
os.replace = replace
save_state(Path(sys.argv[1]), State(8, 1, {"weight": torch.full((3,), 8.0)}, {}, {}))
"""


@pytest.mark.parametrize("renames, step", [(0, 4), (1, 4)])
def test_a_kill_while_a_state_is_replaced_leaves_a_whole_one(tmp_path, renames, step):
    path = tmp_path / "old-cat-state"
    save_state(path, state(4))
    ended = subprocess.run([sys.executable, "-c", KILLED, str(path), str(renames)], cwd=ROOT)
    assert ended.returncode == 9
    assert load_state(find_state(tmp_path)).step == step
    sweep_unfinished(tmp_path)
    assert names(tmp_path) == ["old-cat-state"]
    assert load_state(path).step == step


def test_the_state_itself_is_found_after_such_a_kill(tmp_path):
    path = tmp_path / "cat-state"
    save_state(path, state(4))
    subprocess.run([sys.executable, "-c", KILLED, str(path), "1"], cwd=ROOT)
    assert not path.exists()
    assert load_state(find_state(path)).step == 4


def test_a_torn_draft_never_gets_a_name(tmp_path):
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True).stdout.strip()
    (tmp_path / f"{UNFINISHED}{gone}-old-cat-state").mkdir()
    sweep_unfinished(tmp_path)
    assert names(tmp_path) == []


def test_a_stopped_run_keeps_its_state_whatever_its_name(tmp_path):
    path = saver(tmp_path, tmp_path, output_name="rolling").stop(7, 1)
    assert find_state(tmp_path) == path


def test_states_called_like_rolling_ones_stay(tmp_path):
    writer = saver(tmp_path, tmp_path, output_name="rolling", save_state=True, rolling_state_minutes=1e-9)
    writer.save(1, 1, "step")
    writer.roll(2, 1)
    writer.roll(3, 1)
    assert [name for name in names(tmp_path) if name.endswith("-state")] == ["rolling-step00000001-state", "rolling-step00000003-state"]


def test_a_resumed_run_removes_what_it_wrote_before(tmp_path):
    options = {"output_name": "cat", "save_state": True, "save_every_n_steps": 1, "save_last_n_steps": 1}
    saver(tmp_path, tmp_path, **options).save(1, 1, "step")
    written = load_state(tmp_path / "cat-step00000001-state").extras["written"]
    again = saver(tmp_path, tmp_path, written, **options)
    again.save(2, 1, "step")
    again.save(3, 1, "step")
    assert "cat-step00000001.safetensors" not in names(tmp_path) and "cat-step00000002.safetensors" in names(tmp_path)


def test_a_run_resumed_into_another_folder_leaves_another_run_s_files_there(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    options = {"output_name": "cat", "save_state": True, "save_every_n_steps": 1, "save_last_n_steps": 1}
    saver(first, first, **options).save(1, 1, "step")
    written = load_state(first / "cat-step00000001-state").extras["written"]
    second.mkdir()
    (second / "cat-step00000001.safetensors").write_bytes(b"another run's")
    again = saver(second, second, written, **options)
    again.save(2, 1, "step")
    again.save(3, 1, "step")
    assert (second / "cat-step00000001.safetensors").read_bytes() == b"another run's"


def test_a_state_being_removed_is_whole_or_nameless(tmp_path):
    path = tmp_path / "cat-step00000001-state"
    save_state(path, state(1))
    killed = ("import os, sys, shutil; from pathlib import Path; from backend.files import remove_folder; real = os.unlink;"
              "os.unlink = lambda *a, **k: (real(*a, **k), os._exit(9)); remove_folder(Path(sys.argv[1]))")
    assert subprocess.run([sys.executable, "-c", killed, str(path)], cwd=ROOT).returncode == 9
    assert not path.exists() and [name for name in os.listdir(tmp_path) if name.startswith(UNFINISHED)]
    sweep_unfinished(tmp_path)
    assert names(tmp_path) == []
