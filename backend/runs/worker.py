"""The worker: takes one job after the other, starts its trainer and records how it ended. Imports no torch.

Page, worker and trainer are processes of their own, and any of them may be killed at any instant. The queue says what is meant
to run; the run's folder says what came of it.
"""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

from backend.faults import Faults
from backend.runs.events import whole_event
from backend.runs.folder import RunFolder
from backend.runs.launch import WORKER_LOG, end_at_once, find_trainer, living_trainer, record_of, start_apart, train_words
from backend.runs.lock import TrainerLock
from backend.runs.queue import KEPT_REQUESTS, STOP_NOW, Job, Queue

POLL_SECONDS = 0.5
SECONDS_TO_START = 1.5
LAST_LINES, LAST_BYTES = 12, 8192
END_KINDS = ("finished", "failed", "stopped")

log = logging.getLogger("darkroom")


def ensure_worker(state_dir: Path) -> None:
    """See to it that a worker looks after the queue of a state folder; returns at once. Cheap where one lives."""
    state_dir = Path(state_dir).absolute()
    state_dir.mkdir(parents=True, exist_ok=True)
    starting = state_dir / "worker.starting"
    if worker_lock(state_dir).holder() is None and not touched_lately(starting):
        starting.touch()
        # Of two that are started in the same instant all the same, one finds the other, and ends.
        start_apart([sys.executable, "-m", "backend", "worker", "--state_dir", str(state_dir)], state_dir / WORKER_LOG)


def touched_lately(path: Path) -> bool:
    """Whether a worker was started so short a time ago that it may not have its lock yet."""
    return path.exists() and abs(time.time() - path.stat().st_mtime) < SECONDS_TO_START


def worker_lock(state_dir: Path) -> TrainerLock:
    """What names a state folder's worker."""
    return TrainerLock(Path(state_dir) / "worker.json")


def work(state_dir: Path) -> None:
    """Look after the queue until the process is ended, or somebody takes its lock away. Raises Faults where another worker does it."""
    queue, lock = Queue(state_dir), worker_lock(state_dir)
    try:
        lock.acquire()
    except Faults:
        raise Faults(f"Another worker (process {lock.holder() or 'just starting'}) looks after {state_dir} already; one is enough.") from None
    worker = Worker(queue)
    log.info("Looking after the queue in %s.", state_dir)
    try:
        while lock.holder() == os.getpid():
            worker.look()
            time.sleep(POLL_SECONDS)
    finally:
        lock.release()


class Worker:
    """Looks at the queue again and again. Whatever an earlier worker left, it takes over."""

    def __init__(self, queue: Queue):
        self.queue = queue
        self.children: dict[int, subprocess.Popen] = {}  # of jobs that this worker itself has started

    def look(self) -> None:
        """See how the running job does; where none runs, start the next."""
        for job in self.queue.running():
            self.follow(job)
        job = self.queue.take()
        if job:
            self.start(job)

    def start(self, job: Job) -> None:
        """Start the trainer of a job that was taken."""
        words = train_words(job.command, job.run_dir, job.resume, job.processes)
        try:
            (job.run_dir / WORKER_LOG).unlink(missing_ok=True)  # what an earlier part of the run said is in log.txt
            child = start_apart(words, job.run_dir / WORKER_LOG, job.here)
        except OSError as fault:
            self.queue.ended(job.id, "failed", f"The trainer could not be started: {fault.filename or words[0]}: {fault.strerror or fault}.", None)
            return
        self.children[job.id] = child
        self.queue.started(job.id, record_of(child.pid))
        log.info('Started "%s" (job %d, process %d) in %s', job.name, job.id, child.pid, job.run_dir)

    def follow(self, job: Job) -> None:
        """See whether a job's trainer lives, and pass on what it was asked; where it is gone, record how it ended."""
        child = self.children.get(job.id)
        exit_code = child.poll() if child else None
        trainer = living_trainer(job.run_dir, job.trainer) or (None if job.trainer else find_trainer(job.run_dir))
        if trainer is None:
            self.settle(job, exit_code)
            return
        if job.trainer is None:
            self.queue.started(job.id, trainer)
            log.info('Found the trainer of "%s" (job %d, process %d) running.', job.name, job.id, trainer["pid"])
        if job.request == STOP_NOW:
            end_at_once(trainer)
        elif job.request in KEPT_REQUESTS and job.run_dir.is_dir() and not RunFolder(job.run_dir).requests() & set(KEPT_REQUESTS):
            RunFolder(job.run_dir).ask(job.request)

    def settle(self, job: Job, exit_code: int | None) -> None:
        """Record how a job ended whose trainer is gone; one that was never started waits again."""
        told, begun = events_since(job), job.trainer is not None
        if not (begun or told or job.request):
            self.queue.wait_again(job.id)
            return
        status, message = how_it_ended(job, told) if begun or told else ("stopped", "Before it began.")
        if job.run_dir.is_dir():
            RunFolder(job.run_dir).forget_requests()
        self.children.pop(job.id, None)
        self.queue.ended(job.id, status, message, 0 if status == "finished" and exit_code is None else exit_code)
        log.info('"%s" (job %d) is %s.', job.name, job.id, status)


def events_since(job: Job) -> list[dict]:
    """What the trainer has told since the job was taken."""
    path = job.run_dir / "events.jsonl"
    if not path.exists():
        return []
    with open(path, "rb") as file:
        file.seek(job.events_before)
        events = [whole_event(line) for line in file.read().split(b"\n")]
    return [event for event in events if event]


def how_it_ended(job: Job, told: list[dict]) -> tuple[str, str]:
    """Status and message of a job whose trainer is gone."""
    last = next((event for event in reversed(told) if event["kind"] in END_KINDS), None)
    if last is None and job.request == STOP_NOW:
        return "stopped", "Ended at once, as asked."
    if last is None:
        return "failed", f"It ended without a word (killed?).\n{last_lines(job.run_dir / WORKER_LOG)}".strip()
    if last["kind"] == "stopped":
        return "paused" if last.get("reason") == "paused" else "stopped", f"After step {last.get('step', 0)}."
    return last["kind"], "\n".join(last.get("messages", []))


def last_lines(path: Path) -> str:
    """The end of a log, or nothing where there is none."""
    if not path.is_file():
        return ""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - LAST_BYTES))
        lines = file.read().decode("utf-8", "replace").replace("\r", "\n").split("\n")
    return "\n".join([line for line in lines if line.strip()][-LAST_LINES:])
