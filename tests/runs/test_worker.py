"""Worker and trainer may be killed at any instant: nothing is lost, started twice, or running for ever. Both are real processes; the test stands for the page."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from backend.config.config import make_config
from backend.faults import Faults
from backend.runs.launch import end_at_once, find_trainer, living_trainer, train_words
from backend.runs.queue import ENDED, Queue
from backend.runs.worker import Worker, ensure_worker, work, worker_lock
from tests.workshop import events, file_facts, workbench

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 180.0  # seconds


class House:
    """A state folder with its queue, and the means to start, watch and kill what belongs to it."""

    def __init__(self, folder: Path, options: dict):
        self.folder, self.options = folder, options
        self.queue = Queue(folder / "state")

    def add(self, name="cat", **changes) -> int:
        values = self.options | {"runs_dir": str(self.folder / "runs"), "output_name": "cat"} | changes
        return self.queue.add(make_config("train_network", values), name)

    def open(self) -> None:
        """What the page does whenever it looks."""
        ensure_worker(self.folder / "state")

    def worker(self) -> int | None:
        return worker_lock(self.folder / "state").holder()

    def kill_worker(self) -> None:
        kill(self.worker())

    def kill_trainer(self, number: int) -> None:
        job = self.queue.job(number)
        trainer = living_trainer(job.run_dir, job.trainer)
        kill(trainer and trainer["pid"])

    def until(self, condition, seconds=PATIENCE, page=True):
        """Wait for something; with the page looking, a dead worker is replaced."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                logs = [path.read_text() for path in self.folder.rglob("worker.log")]
                raise TimeoutError(f"{self.queue.jobs()}\n" + "\n".join(logs))
            if page:
                self.open()
            time.sleep(0.05)

    def until_ended(self, number: int, seconds=PATIENCE):
        self.until(lambda: self.queue.job(number).status in ENDED, seconds)
        return self.queue.job(number)

    def until_saved(self, number: int) -> None:
        """Wait until the run has a state and steps on."""
        def steps():
            kinds = [event["kind"] for event in events(self.queue.job(number).run_dir)]
            return "saved" in kinds and "step" in kinds
        self.until(steps)

    def hash(self, number: int) -> str:
        return file_facts(self.queue.job(number).run_dir / "cat.safetensors")["sshs_model_hash"]

    def kinds(self, number: int) -> list[str]:
        return [event["kind"] for event in events(self.queue.job(number).run_dir)]

    def close(self) -> None:
        """End all that was started here."""
        kill(self.worker())
        for job in self.queue.jobs():
            trainer = living_trainer(job.run_dir, job.trainer) or find_trainer(job.run_dir)
            if trainer:
                end_at_once(trainer)


def kill(pid: int | None) -> None:
    """Kill with -9, and wait until it is gone."""
    if pid is None:
        return
    try:
        process = psutil.Process(pid)
        process.kill()
        deadline = time.monotonic() + 10
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
            time.sleep(0.01)
    except psutil.NoSuchProcess:
        return


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> dict:
    """Options for a run that keeps a state of nearly every step."""
    folder = tmp_path_factory.mktemp("bench")
    return workbench(folder) | {"rolling_state_minutes": 1e-5, "max_train_steps": 40, "lr_warmup_steps": 2}


@pytest.fixture(scope="module")
def unbroken(bench, tmp_path_factory) -> str:
    """The hash of the file that an undisturbed run writes; two of them, one after the other, write the same."""
    house = House(tmp_path_factory.mktemp("unbroken"), bench)
    try:
        first, second = house.add("first"), house.add("second")
        house.until(lambda: house.queue.job(first).status == "running")
        assert house.queue.job(second).status == "waiting"
        one, two = house.until_ended(first), house.until_ended(second)
        assert (one.status, one.exit_code, one.message) == (two.status, two.exit_code, two.message) == ("finished", 0, "")
        assert two.started_at >= one.ended_at and one.run_dir != two.run_dir
        assert house.hash(first) == house.hash(second)
        return house.hash(first)
    finally:
        house.close()


@pytest.fixture
def house(tmp_path, bench):
    house = House(tmp_path, bench)
    yield house
    house.close()


def test_two_jobs_run_one_after_the_other(unbroken):
    assert len(unbroken) == 64


def test_a_killed_worker_takes_no_trainer_along_and_the_next_one_adopts_it(house, unbroken):
    number = house.add()
    house.until_saved(number)
    trainer, first = house.queue.job(number).trainer, house.worker()
    house.kill_worker()
    assert psutil.pid_exists(trainer["pid"])
    house.until(lambda: house.worker() not in (None, first))
    job = house.until_ended(number)
    assert (job.status, house.hash(number)) == ("finished", unbroken)
    assert house.kinds(number).count("started") == house.kinds(number).count("finished") == 1


def test_a_killed_trainer_is_found_out_and_goes_on_to_the_same_file(house, unbroken):
    number = house.add()
    house.until_saved(number)
    house.kill_trainer(number)
    job = house.until_ended(number, seconds=5)
    assert job.status == "failed" and job.message.startswith("It ended without a word (killed?).\n") and job.exit_code == -9
    house.queue.resume(number)
    assert house.until_ended(number).status == "finished"
    assert house.hash(number) == unbroken and "resumed" in house.kinds(number)


def test_where_both_are_killed_the_next_worker_finds_out_at_once(house, unbroken):
    number = house.add()
    house.until_saved(number)
    house.kill_worker()
    house.kill_trainer(number)
    assert house.queue.job(number).status == "running"
    job = house.until_ended(number, seconds=5)
    assert (job.status, job.exit_code) == ("failed", None)
    house.queue.resume(number)
    assert house.until_ended(number).status == "finished" and house.hash(number) == unbroken


def test_pause_frees_the_device_for_the_next_job_and_the_run_goes_on_exactly(house, unbroken):
    number, other = house.add(), house.add("other", max_train_steps=2)
    house.until_saved(number)
    trainer = house.queue.job(number).trainer
    house.queue.ask(number, "pause")
    job = house.until_ended(number)
    assert job.status == "paused" and job.message.startswith("After step ") and not psutil.pid_exists(trainer["pid"])
    house.queue.resume(number)
    assert [waiting.id for waiting in house.queue.jobs()][-1] == number
    assert house.until_ended(number).status == "finished" and house.hash(number) == unbroken
    assert house.queue.job(other).ended_at <= house.queue.job(number).started_at


def test_a_stop_asked_before_the_trainer_listens_is_not_lost(house, unbroken):
    number = house.add()
    house.until(lambda: house.queue.job(number).trainer is not None)
    house.queue.ask(number, "stop")
    job = house.until_ended(number)
    assert job.status == "stopped" and not {"stop", "pause"} & {path.name for path in job.run_dir.iterdir()}
    house.queue.resume(number)
    assert house.until_ended(number).status == "finished" and house.hash(number) == unbroken


def test_stop_now_ends_the_trainer_at_once(house):
    number = house.add()
    house.until_saved(number)
    house.queue.stop_now(number)
    job = house.until_ended(number, seconds=5)
    assert (job.status, job.message) == ("stopped", "Ended at once, as asked.")
    assert not (job.run_dir / "cat.safetensors").exists()


def test_a_job_that_was_taken_and_never_started_is_started_once(house):
    number = house.add(max_train_steps=2)
    assert house.queue.take().id == number  # and the worker is killed here
    assert house.until_ended(number).status == "finished"
    assert house.kinds(number).count("started") == 1


def test_a_trainer_whose_start_was_not_recorded_is_found_and_not_started_twice(house):
    number = house.add(max_train_steps=2)
    job = house.queue.take()
    child = subprocess.Popen(train_words(job.command, job.run_dir, None), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    house.until(lambda: house.queue.job(number).trainer is not None)
    assert house.queue.job(number).trainer["pid"] == child.pid
    child.wait()
    assert house.until_ended(number).status == "finished"
    assert house.kinds(number).count("started") == 1


def test_a_run_that_ended_unseen_and_unrecorded_is_not_started_again(house):
    number = house.add(max_train_steps=2)
    job = house.queue.take()
    (job.run_dir / "events.jsonl").write_text(json.dumps({"kind": "started"}) + "\n" + json.dumps({"kind": "finished"}) + "\n")
    Worker(house.queue).look()
    assert house.queue.job(number).status == "finished"


def test_a_trainer_that_refuses_its_settings_fails_with_its_words(house):
    number = house.add(pretrained_model_name_or_path="/nowhere.safetensors")
    job = house.until_ended(number)
    assert (job.status, job.exit_code) == ("failed", 2) and "nowhere.safetensors" in job.message


def test_two_processes_are_started_by_the_launcher(house, bench, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")  # where there is a GPU, accelerate joins the processes by itself
    values = bench | {"runs_dir": str(house.folder / "runs"), "output_name": "cat", "max_train_steps": 2}
    number = house.queue.add(make_config("train_network", values), "two", processes=2)
    job = house.until_ended(number)
    assert job.status == "finished", job.message
    planned = next(event for event in events(job.run_dir) if event["kind"] == "planned")
    assert planned["processes"] == 2


def test_one_worker_is_enough(house):
    house.until(lambda: house.worker() is not None)
    first = house.worker()
    with pytest.raises(Faults, match=f"Another worker \\(process {first}\\) looks after"):
        work(house.folder / "state")
    told = subprocess.run([sys.executable, "-m", "backend", "worker", "--state_dir", str(house.folder / "state")], cwd=ROOT, capture_output=True, text=True)
    assert told.returncode == 2 and "one is enough" in told.stderr and "Traceback" not in told.stderr
    assert house.worker() == first


def test_a_worker_whose_lock_is_taken_away_ends(house):
    house.until(lambda: house.worker() is not None)
    worker = psutil.Process(house.worker())
    (house.folder / "state" / "worker.json").unlink()
    house.until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, seconds=5, page=False)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_worker_and_trainer_killed_in_any_order_at_any_instant_lose_nothing(house, unbroken, seed):
    chance, number = random.Random(seed), house.add()
    for _ in range(chance.randint(2, 4)):
        time.sleep(chance.uniform(0, 8))
        for victim in chance.choice([["worker"], ["trainer"], ["worker", "trainer"], ["trainer", "worker"]]):
            house.kill_worker() if victim == "worker" else house.kill_trainer(number)
            time.sleep(chance.choice([0, 0, 0.3, 1]))
        house.open()
        time.sleep(3)
        if house.queue.job(number).status == "failed":
            house.queue.resume(number)
        house.open()
    while house.until_ended(number).status != "finished":
        house.queue.resume(number)
    assert house.hash(number) == unbroken
    assert house.kinds(number).count("finished") == 1
