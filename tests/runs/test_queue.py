"""The queue keeps what it was given, in order, whoever looks at it and whenever."""

import threading
import tomllib
from pathlib import Path

import pytest

from backend.config.config import make_config
from backend.faults import Faults
from backend.runs.queue import Queue
from tests.workshop import ROOT

TRAINER = {"pid": 2**22 + 1, "created": 1.0}  # no process has this number


def config(tmp_path, **values):
    return make_config("train_network", {"runs_dir": str(tmp_path / "runs"), "learning_rate": 1e-3, **values})


@pytest.fixture
def queue(tmp_path):
    return Queue(tmp_path / "state")


def names(queue):
    return [job.name for job in queue.jobs()]


def test_a_job_is_found_again_by_another_process_with_all_it_was_given(tmp_path, queue):
    number = queue.add(config(tmp_path, output_name="cat", max_train_steps=7, lr_warmup_steps="10%"), "My cat")
    job = Queue(tmp_path / "state").job(number)
    assert (job.name, job.command, job.status, job.processes) == ("My cat", "train_network", "waiting", 1)
    assert job.values["max_train_steps"] == 7 and job.values["output_name"] == "cat"
    assert make_config("train_network", job.values).values() == config(tmp_path, output_name="cat", max_train_steps=7, lr_warmup_steps="10%").values()
    assert job.run_dir.parent == tmp_path / "runs" and job.run_dir.name.endswith("-My cat") and job.here == Path.cwd()
    written = tomllib.loads((job.run_dir / "config.toml").read_text())
    assert written["training"]["max_train_steps"] == 7


def test_no_two_jobs_share_a_folder(tmp_path, queue):
    assert len({queue.job(queue.add(config(tmp_path), "cat")).run_dir for _ in range(3)}) == 3
    queue.add(config(tmp_path, run_dir=str(tmp_path / "own")), "own")
    with pytest.raises(Faults, match="run_dir is .*own, but that is another run's"):
        queue.add(config(tmp_path, run_dir=str(tmp_path / "own")), "other")


def test_a_tool_is_no_run(queue):
    with pytest.raises(Faults, match="demo is no training"):
        queue.add(make_config("demo", {}), "demo")


def test_waiting_jobs_run_in_the_order_they_are_moved_to(tmp_path, queue):
    a, b, c = (queue.add(config(tmp_path), name) for name in "abc")
    queue.move(c, -1)
    assert names(queue) == ["a", "c", "b"]
    queue.move(a, 99)
    assert names(queue) == ["c", "b", "a"]
    assert queue.take().name == "c"
    with pytest.raises(Faults, match='"c" cannot be moved: it is running, not waiting'):
        queue.move(c, 1)
    queue.move(a, -99)
    assert names(queue) == ["c", "a", "b"]


def test_only_one_job_is_taken_at_a_time(tmp_path, queue):
    first, second = queue.add(config(tmp_path), "a"), queue.add(config(tmp_path), "b")
    taken = []
    takers = [threading.Thread(target=lambda: taken.append(queue.take())) for _ in range(8)]
    [taker.start() for taker in takers]
    [taker.join() for taker in takers]
    assert [job.id for job in taken if job] == [first]
    queue.ended(first, "finished", "", 0)
    assert queue.take().id == second


def test_many_who_add_at_once_lose_nothing(tmp_path, queue):
    adders = [threading.Thread(target=lambda: [queue.add(config(tmp_path), "x") for _ in range(5)]) for _ in range(4)]
    [adder.start() for adder in adders]
    [adder.join() for adder in adders]
    assert len({job.run_dir for job in queue.jobs()}) == 20


def test_a_waiting_job_is_changed_in_place_and_a_running_one_is_not(tmp_path, queue):
    number = queue.add(config(tmp_path, max_train_steps=7), "a")
    queue.replace(number, config(tmp_path, max_train_steps=9))
    job = queue.job(number)
    assert job.values["max_train_steps"] == 9
    assert tomllib.loads((job.run_dir / "config.toml").read_text())["training"]["max_train_steps"] == 9
    queue.take()
    with pytest.raises(Faults, match="cannot be changed: it is running"):
        queue.replace(number, config(tmp_path))


def test_removing_a_job_that_never_began_takes_its_folder_along_and_nothing_else(tmp_path, queue):
    empty, used = queue.add(config(tmp_path), "empty"), queue.add(config(tmp_path), "used")
    folders = [queue.job(number).run_dir for number in (empty, used)]
    (folders[1] / "log.txt").write_text("something")
    queue.remove(empty)
    queue.remove(used)
    assert [folder.exists() for folder in folders] == [False, True] and queue.jobs() == []
    with pytest.raises(Faults, match="There is no job"):
        queue.job(empty)


def test_a_running_job_is_asked_by_a_file_and_a_waiting_one_is_not_asked(tmp_path, queue):
    number = queue.add(config(tmp_path), "a")
    with pytest.raises(Faults, match="cannot be asked: it is waiting"):
        queue.ask(number, "stop")
    folder = queue.take().run_dir
    queue.ask(number, "save_now")
    assert (folder / "save_now").exists() and queue.job(number).request is None
    queue.ask(number, "pause")
    assert (folder / "pause").exists() and queue.job(number).request == "pause"
    with pytest.raises(Faults, match="cannot be removed: it is running"):
        queue.remove(number)
    with pytest.raises(ValueError):
        queue.ask(number, "run.json")


def test_a_failed_job_without_a_state_begins_anew_in_a_new_folder(tmp_path, queue):
    number = queue.add(config(tmp_path, max_train_steps=7), "a")
    before = queue.take().run_dir
    queue.started(number, TRAINER)
    (before / "events.jsonl").write_text('{"kind": "started"}\n')
    queue.ended(number, "failed", "words", 1)
    queue.resume(number)
    job = queue.job(number)
    assert (job.status, job.message, job.exit_code, job.ended_at, job.trainer, job.resume) == ("waiting", "", None, None, None, None)
    assert job.run_dir != before and job.run_dir.parent == before.parent
    assert tomllib.loads((job.run_dir / "config.toml").read_text())["training"]["max_train_steps"] == 7
    with pytest.raises(Faults, match="cannot be resumed: it is waiting, not paused or stopped or failed"):
        queue.resume(number)


def test_a_job_that_ended_before_it_began_keeps_its_folder(tmp_path, queue):
    number = queue.add(config(tmp_path), "a")
    folder = queue.take().run_dir
    queue.ended(number, "failed", "words", 2)
    queue.resume(number)
    assert queue.job(number).run_dir == folder


def test_how_a_job_ended_is_recorded_once(tmp_path, queue):
    number = queue.add(config(tmp_path), "a")
    queue.take()
    queue.ended(number, "finished", "", 0)
    queue.ended(number, "failed", "too late", 1)
    assert (queue.job(number).status, queue.job(number).message) == ("finished", "")


def test_the_queue_needs_no_torch():
    import subprocess
    import sys

    words = "import sys, backend.runs.queue, backend.runs.worker; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", words], cwd=ROOT, capture_output=True, text=True).stdout == "False\n"
