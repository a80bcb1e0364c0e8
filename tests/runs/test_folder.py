"""A run's folder is its own: by name, by what it is asked, and by the one trainer in it."""

import json
import logging
import os
import platform
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from backend.faults import Faults
from backend.runs.folder import RunFolder, safe_name
from backend.runs.options import RunOptions

NOW = datetime(2026, 11, 21, 9, 30, 5)
ROOT = Path(__file__).resolve().parents[2]
HOLDER = "import sys, time; from backend.runs.folder import RunFolder; RunFolder.open(sys.argv[1]).lock.acquire(); print('held', flush=True); time.sleep(60)"


def make(tmp_path, name="cat", resuming=False, now=NOW, **options):
    return RunFolder.create(RunOptions(runs_dir=str(tmp_path / "runs"), **options), name, now, resuming)


def test_a_run_gets_a_folder_named_by_time_and_name(tmp_path):
    folder = make(tmp_path)
    assert folder.path == tmp_path / "runs" / "2026-11-21_09-30-05-cat"
    assert folder.path.is_dir()


def test_a_run_never_gets_the_folder_of_another(tmp_path):
    paths = [make(tmp_path).path.name for _ in range(3)]
    assert paths == ["2026-11-21_09-30-05-cat", "2026-11-21_09-30-05-cat-2", "2026-11-21_09-30-05-cat-3"]


def test_a_run_dir_is_made_and_used(tmp_path):
    assert make(tmp_path, run_dir=str(tmp_path / "a" / "b")).path == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir()
    assert not (tmp_path / "runs").exists()


def test_a_run_dir_that_holds_another_run_is_refused_unless_it_goes_on(tmp_path):
    folder = make(tmp_path, run_dir=str(tmp_path / "run"))
    make(tmp_path, run_dir=str(tmp_path / "run"))  # nothing was ever started there
    folder.events.write_text("{}\n")
    with pytest.raises(Faults, match="another run is already kept there"):
        make(tmp_path, run_dir=str(tmp_path / "run"))
    assert make(tmp_path, run_dir=str(tmp_path / "run"), resuming=True).path == folder.path


def test_a_place_where_no_folder_can_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Faults, match="run_dir is .*file/run, but no folder can be made there"):
        make(tmp_path, run_dir=str(tmp_path / "file" / "run"))
    with pytest.raises(Faults, match="runs_dir is"):
        RunFolder.create(RunOptions(runs_dir=str(tmp_path / "file")), "cat", NOW)


@pytest.mark.parametrize("name, safe", [
    ("cat", "cat"), ("a/b\\c", "a_b_c"), ('x:y*?"<>|', "x_y______"), ("..", "run"), ("name. ", "name"), ("", "run"), ("tab\there", "tab_here"),
    ("猫" * 60, "猫" * 26), ("e\u0301", "é")])
def test_names_are_made_safe_for_every_file_system(name, safe):
    assert safe_name(name) == safe


def test_curves_are_kept_in_the_run_or_where_logging_dir_says(tmp_path):
    assert make(tmp_path).tensorboard.parent.name == "2026-11-21_09-30-05-cat"
    folder = make(tmp_path, logging_dir=str(tmp_path / "logs"), log_prefix="cat_")
    assert folder.tensorboard == tmp_path / "logs" / "cat_20261121093005"
    assert RunFolder.open(folder.path).tensorboard == folder.tensorboard


def test_a_resumed_run_goes_on_with_its_curves(tmp_path):
    options = {"run_dir": str(tmp_path / "run"), "logging_dir": str(tmp_path / "logs")}
    first = make(tmp_path, **options)
    later = make(tmp_path, resuming=True, now=datetime(2026, 12, 1), **options)
    assert later.tensorboard == first.tensorboard


def test_only_a_run_can_be_opened(tmp_path):
    with pytest.raises(Faults, match="not the folder of a run"):
        RunFolder.open(tmp_path)
    (tmp_path / "run.json").write_text("[")
    with pytest.raises(Faults, match="cannot be read as the record of a run"):
        RunFolder.open(tmp_path)


def test_a_request_stands_until_it_is_answered(tmp_path):
    folder = make(tmp_path)
    (folder.path / "saved_now").touch()
    assert folder.requests() == set()
    folder.ask("stop")
    folder.ask("save_now")
    assert RunFolder.open(folder.path).requests() == {"stop", "save_now"}
    folder.answered("save_now")
    folder.answered("save_now")
    assert folder.requests() == {"stop"}


def test_a_request_to_an_earlier_part_of_a_run_does_not_reach_the_resumed_one(tmp_path):
    make(tmp_path, run_dir=str(tmp_path / "run")).ask("stop")
    assert make(tmp_path, run_dir=str(tmp_path / "run"), resuming=True).requests() == set()


def test_what_is_logged_is_kept_in_the_run(tmp_path):
    folder, log = make(tmp_path), logging.getLogger("darkroom")
    before = (log.level, list(log.handlers))
    with folder.logged():
        log.info("größer")
        log.warning("careful")
    log.warning("after the run")
    lines = folder.log.read_text(encoding="utf-8").splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["INFO größer", "WARNING careful"]
    assert (log.level, log.handlers) == before


def holder_of(folder):
    """A process that holds the folder's lock and then waits."""
    child = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder.path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "held\n"
    return child


def test_a_folder_has_one_trainer_until_that_one_is_killed(tmp_path):
    folder = make(tmp_path)
    child = holder_of(folder)
    try:
        assert folder.lock.holder() == child.pid
        with pytest.raises(Faults, match=f"still running \\(process {child.pid}\\)"):
            folder.lock.acquire()
        child.send_signal(signal.SIGKILL)
        # Not waited for yet: the killed process is a zombie, which is dead too.
        deadline = time.monotonic() + 10
        while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
            time.sleep(0.01)
        assert folder.lock.holder() is None
        with folder.lock:
            assert folder.lock.holder() == psutil.Process().pid
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    assert not (folder.path / "trainer.json").exists()


def test_a_folder_in_use_is_refused_before_anything_in_it_is_changed(tmp_path):
    folder = make(tmp_path, run_dir=str(tmp_path / "run"))
    child = holder_of(folder)
    try:
        folder.ask("stop")
        before = (folder.path / "run.json").read_bytes()
        with pytest.raises(Faults, match="still running"):
            make(tmp_path, name="dog", run_dir=str(tmp_path / "run"), resuming=True)
        assert folder.requests() == {"stop"} and (folder.path / "run.json").read_bytes() == before
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def write_lock(folder, **changes):
    own = {"pid": psutil.Process().pid, "created": psutil.Process().create_time(), "host": platform.node()}
    (folder.path / "trainer.json").write_text(json.dumps({**own, **changes}))


def test_a_lock_whose_pid_now_belongs_to_another_process_is_taken_over(tmp_path):
    folder = make(tmp_path)
    write_lock(folder, created=psutil.Process().create_time() - 1000)
    assert folder.lock.holder() is None
    folder.lock.acquire()
    assert json.loads((folder.path / "trainer.json").read_text())["created"] == psutil.Process().create_time()


def test_a_lock_of_another_machine_is_never_taken_over(tmp_path):
    folder = make(tmp_path)
    write_lock(folder, host="elsewhere", pid=1)
    with pytest.raises(Faults, match="on the machine elsewhere"):
        folder.lock.acquire()
    assert folder.lock.holder() is None


def test_an_empty_lock_is_waited_for_and_then_taken_over(tmp_path):
    folder = make(tmp_path)
    path = folder.path / "trainer.json"
    path.write_text("")
    with pytest.raises(Faults, match="being claimed"):
        folder.lock.acquire()
    os.utime(path, (time.time() - 60, time.time() - 60))
    folder.lock.acquire()
    assert folder.lock.holder() == psutil.Process().pid


def test_a_lock_written_by_another_in_between_is_left_alone(tmp_path):
    folder = make(tmp_path)
    write_lock(folder)
    before = (folder.path / "trainer.json").read_bytes()
    folder.lock.take_away(b"the stale lock that was seen before")
    assert (folder.path / "trainer.json").read_bytes() == before


def test_a_trainer_does_not_let_go_of_anothers_lock(tmp_path):
    folder = make(tmp_path)
    write_lock(folder, pid=1, created=psutil.Process(1).create_time())
    folder.lock.release()
    assert (folder.path / "trainer.json").exists()
