"""Trainers as processes of their own: started so that nothing takes them along, found again, ended. Imports no torch."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from backend.runs.lock import TrainerLock, is_alive, parsed

ROOT = Path(__file__).resolve().parents[2]  # where `python -m backend` always works; elsewhere it needs PYTHONPATH, as setup.sh sets it
WORKER_LOG = "worker.log"  # all that a trainer says, in its run folder


def train_words(command: str, run_dir: Path, resume: str | None, processes: int = 1) -> list[str]:
    """The words that start a trainer for a run folder that holds its config.toml; several processes go through torch's launcher."""
    start = [sys.executable, "-m", "backend"]
    if processes > 1:
        start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "-m", "backend"]
    going_on = ["--resume", resume] if resume else []
    return [*start, command, "--config_file", str(run_dir / "config.toml"), "--run_dir", str(run_dir), *going_on]


def start_apart(words: list[str], log: Path, here: Path = ROOT) -> subprocess.Popen:
    """Start a process that outlives this one and hears nothing of its Ctrl-C, from the folder `here`; what it says is added to the file `log`. Raises OSError."""
    apart: dict[str, Any] = {"start_new_session": True}
    if os.name == "nt":
        apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    with open(log, "ab") as output:
        return subprocess.Popen(words, cwd=here, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, **apart)


def record_of(pid: int) -> dict:
    """What tells a process of this machine from a later one with the same number. Raises psutil.NoSuchProcess."""
    return {"pid": pid, "created": psutil.Process(pid).create_time(), "host": platform.node()}


def living_trainer(run_dir: Path, record: dict | None) -> dict | None:
    """The process that trains in a folder: the recorded one, else the one that holds the folder; None where neither lives."""
    if record and is_alive(record):
        return record
    lock = TrainerLock(run_dir / "trainer.json")
    return parsed(lock.content()) if lock.holder() is not None else None


def find_trainer(run_dir: Path) -> dict | None:
    """A trainer that was started for a folder, but may not hold it yet: found by its words. Of several the oldest, which started the others."""
    found = [process for process in psutil.process_iter(["cmdline", "create_time", "status"]) if trains_in(process.info, str(run_dir))]
    found.sort(key=lambda process: process.info["create_time"])
    if not found:
        return living_trainer(run_dir, None)
    return {"pid": found[0].pid, "created": found[0].info["create_time"], "host": platform.node()}


def trains_in(facts: dict, run_dir: str) -> bool:
    """Whether a process was started to train in a folder, and still runs."""
    words = facts["cmdline"] or []  # None where another user's process may not be looked at
    named = any(pair == ("--run_dir", run_dir) for pair in zip(words, words[1:]))
    return named and "backend" in words and facts["status"] != psutil.STATUS_ZOMBIE


def end_at_once(record: dict) -> None:
    """Kill a process and all that it has started."""
    if not is_alive(record):
        return
    try:
        process = psutil.Process(record["pid"])
        family = [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
