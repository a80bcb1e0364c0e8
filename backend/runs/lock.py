"""One trainer to a run folder: a file that names the process, and is worth nothing once that process is gone."""

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

from backend.faults import Faults

SECONDS_TO_WRITE = 10.0  # a lock that is still empty after this was left by a process killed while writing it


class TrainerLock:
    """trainer.json: pid and creation time of the process that trains in a folder. Used as a context, or by acquire and release."""

    def __init__(self, path: Path):
        self.path = Path(path)

    def acquire(self) -> None:
        """Claim the folder for this process; a dead process's claim is taken over. Raises Faults where a living one holds it."""
        while not self.written():
            held = self.content()
            if held is None:
                continue  # let go of in this instant
            self.refuse_if_alive(held)
            self.take_away(held)

    def release(self) -> None:
        """Let go of the folder, if this process holds it."""
        if self.holder() == os.getpid():
            self.path.unlink(missing_ok=True)

    def refuse_if_held(self) -> None:
        """Raises Faults where another process holds the folder now. It may be claimed right after: only acquire settles that."""
        held = self.content()
        if held is not None:
            self.refuse_if_alive(held)

    def holder(self) -> int | None:
        """The pid of the living process on this machine that holds the folder, or None."""
        record = parsed(self.content())
        return record["pid"] if record and record["host"] == platform.node() and is_alive(record) else None

    def written(self) -> bool:
        """Write the lock, unless there is one."""
        try:
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(handle, "wb") as file:
            file.write(json.dumps(this_process()).encode("utf-8"))
        return True

    def content(self) -> bytes | None:
        """The lock as it lies there, or None where there is none."""
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None

    def refuse_if_alive(self, held: bytes) -> None:
        """Raises Faults where the folder's process lives, or may live."""
        folder, record = self.path.parent, parsed(held)
        if record is None:
            if time.time() - os.stat(self.path).st_mtime < SECONDS_TO_WRITE:
                raise Faults(f"{folder} is being claimed by another trainer in this moment. Let it end, or use another run_dir.")
        elif record["host"] != platform.node():
            raise Faults(
                f"{folder} is in use by a trainer on the machine {record['host']}. If it no longer runs, remove {self.path}; else use another run_dir.")
        elif is_alive(record):
            raise Faults(f"{folder} is in use by a trainer that is still running (process {record['pid']}). Let it end, or use another run_dir.")

    def take_away(self, held: bytes) -> None:
        """Remove a dead process's lock, but never one that another trainer has written in the meantime."""
        aside = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            os.replace(self.path, aside)
        except FileNotFoundError:
            return
        if aside.read_bytes() != held:
            os.replace(aside, self.path)
            return
        aside.unlink()

    def __enter__(self) -> "TrainerLock":
        self.acquire()
        return self

    def __exit__(self, *error: Any) -> None:
        self.release()


def this_process() -> dict:
    """What a lock says of the process that wrote it."""
    import psutil

    return {"pid": os.getpid(), "created": psutil.Process().create_time(), "host": platform.node()}


def parsed(held: bytes | None) -> dict | None:
    """The record in a lock, or None where it is empty or torn."""
    try:
        record = json.loads(held or b"")
        return {"pid": int(record["pid"]), "created": float(record["created"]), "host": str(record["host"])}
    except (ValueError, KeyError, TypeError):
        return None


def is_alive(record: dict) -> bool:
    """Whether the process still runs; another that was given the same pid does not count, nor does a zombie."""
    import psutil

    try:
        process = psutil.Process(record["pid"])
        # The creation time is derived from the clock at boot, which may be set a little in between.
        return abs(process.create_time() - record["created"]) < 2.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
