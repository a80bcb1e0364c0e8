"""A run's folder: the only thing that the page and the trainer share."""

import json
import logging
import os
import re
import unicodedata
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Iterator

from backend.faults import Faults
from backend.files import write_text
from backend.runs.lock import TrainerLock
from backend.runs.options import RunOptions

CONTROLS = ("stop", "save_now", "sample_now", "pause")
LONGEST_NAME = 80  # bytes; file systems end at 255, and there is more to a path than this name
log = logging.getLogger("darkroom")


class RunFolder:
    """Where a run keeps what it is told and what it tells."""

    def __init__(self, path: Path, tensorboard: Path | None = None):
        self.path = Path(path)
        self.config = self.path / "config.toml"
        self.events = self.path / "events.jsonl"
        self.log = self.path / "log.txt"
        self.samples = self.path / "samples"
        self.rolling_state = self.path / "rolling_state"
        self.tensorboard = tensorboard or self.path / "tensorboard"
        self.lock = TrainerLock(self.path / "trainer.json")

    @classmethod
    def create(cls, options: RunOptions, output_name: str, now: datetime, resuming: bool = False) -> "RunFolder":
        """A new run's folder: run_dir, or a new one in runs_dir. Raises Faults where another run is kept or goes on there.

        resuming: run_dir may hold an earlier part of this run, which goes on in it.
        """
        path = Path(options.run_dir) if options.run_dir else None
        if path and (path / "events.jsonl").exists() and not resuming:
            raise Faults(f"run_dir is {path}, but another run is already kept there. Name another folder, leave run_dir empty, or give resume to go on.")
        try:
            if path:
                path.mkdir(parents=True, exist_ok=True)
            else:
                path = new_folder(Path(options.runs_dir), f"{now:%Y-%m-%d_%H-%M-%S}-{safe_name(output_name)}")
        except OSError as error:
            name, value = ("run_dir", options.run_dir) if options.run_dir else ("runs_dir", options.runs_dir)
            raise Faults(f"{name} is {value}, but no folder can be made there: {error.strerror or error}. Name another place.") from None
        TrainerLock(path / "trainer.json").refuse_if_held()
        started = started_at(path) or now
        tensorboard = Path(options.logging_dir) / f"{options.log_prefix}{started:%Y%m%d%H%M%S}" if options.logging_dir else path / "tensorboard"
        folder = cls(path, tensorboard)
        folder.forget_requests()
        write_text(path / "run.json", json.dumps({"started": started.isoformat(), "name": output_name, "tensorboard": str(tensorboard.absolute())}) + "\n")
        return folder

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """A run's folder that exists. Raises Faults where there is none."""
        path = Path(path)
        if not (path / "run.json").is_file():
            raise Faults(f"{path} is not the folder of a run: it holds no run.json.")
        return cls(path, Path(read_record(path)["tensorboard"]))

    def ask(self, request: str) -> None:
        """Ask the trainer for one of CONTROLS."""
        if request not in CONTROLS:
            raise ValueError(f"{request} is none of {CONTROLS}")
        (self.path / request).touch()

    def requests(self) -> set[str]:
        """What the trainer is asked for now. Cheap: the folder is listed once."""
        return set(CONTROLS).intersection(os.listdir(self.path))

    def answered(self, request: str) -> None:
        """Take a request away, because it is done or no longer wanted."""
        (self.path / request).unlink(missing_ok=True)

    def forget_requests(self) -> None:
        """Take away what an earlier part of the run was asked for, so that an old `stop` does not stop it again."""
        for request in CONTROLS:
            self.answered(request)

    @contextmanager
    def logged(self) -> Iterator[None]:
        """While the block runs, what is logged is also kept in log.txt."""
        keeper = logging.FileHandler(self.log, encoding="utf-8")
        keeper.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        level = log.level
        log.addHandler(keeper)
        log.setLevel(logging.INFO)
        try:
            yield
        finally:
            log.setLevel(level)
            log.removeHandler(keeper)
            keeper.close()


def safe_name(name: str) -> str:
    """The name as every file system takes it: no path, no signs that Windows keeps for itself, not too long."""
    name = unicodedata.normalize("NFC", name)
    name = re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f]', "_", name)
    name = name.encode("utf-8", "replace")[:LONGEST_NAME].decode("utf-8", "ignore").strip(" .")
    return name or "run"


def new_folder(parent: Path, name: str) -> Path:
    """A folder that did not exist before, with a counter where the name is taken."""
    parent.mkdir(parents=True, exist_ok=True)
    count = 1
    while True:
        path = parent / (name if count == 1 else f"{name}-{count}")
        try:
            path.mkdir()
            return path
        except FileExistsError:
            count += 1


def started_at(path: Path) -> datetime | None:
    """When the run in this folder first began, or None where there is none yet."""
    if not (path / "run.json").is_file():
        return None
    return datetime.fromisoformat(read_record(path)["started"])


def read_record(path: Path) -> dict:
    """What run.json says. Raises Faults where it cannot be read."""
    try:
        record = json.loads((path / "run.json").read_text(encoding="utf-8"))
        datetime.fromisoformat(record["started"]), Path(record["tensorboard"])
        return record
    except (OSError, ValueError, KeyError, TypeError):
        raise Faults(f"{path / 'run.json'} cannot be read as the record of a run. Remove it, or name another folder.") from None
