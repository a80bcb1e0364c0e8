"""The queue of runs: what waits, what runs, what has ended and how. Kept in SQLite, for page and worker at once. Imports no torch."""

import json
import platform
import sqlite3
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Iterator

from backend.checkpoints.manifest import STATE_NAMES, newness
from backend.config.commands import COMMANDS, fields_of
from backend.config.config import Config
from backend.config.option import facts_of
from backend.config.toml_file import write_config
from backend.faults import Faults
from backend.files import put_back
from backend.runs.events import read_events
from backend.runs.folder import CONTROLS, RunFolder, new_folder, safe_name
from backend.runs.launch import end_at_once, living_trainer

ENDED = ("finished", "failed", "stopped", "paused")
MAY_GO_ON = ("paused", "stopped", "failed")
KEPT_REQUESTS = ("stop", "pause")  # a trainer that is just starting forgets what it was asked; these are asked again
STOP_NOW = "stop_now"
SECONDS_TO_WAIT = 30.0  # for another process that writes
TABLE = """
create table if not exists jobs (
    id integer primary key autoincrement, position integer not null, name text not null, command text not null, settings text not null,
    run_dir text not null, here text not null, processes integer not null, status text not null, added_at real not null, started_at real, ended_at real,
    exit_code integer, message text not null default '', resume text, request text, pid integer, created real,
    events_before integer not null default 0)
"""


@dataclass(frozen=True)
class Job:
    """One run in the queue. Times are seconds since 1970."""

    id: int
    name: str
    command: str
    values: dict[str, Any]  # every option by name, without secrets, run_dir and resume
    run_dir: Path
    status: str  # waiting, running, or one of ENDED
    added_at: float
    started_at: float | None
    ended_at: float | None
    exit_code: int | None  # None also where the trainer's parent was gone by then
    message: str
    here: Path  # the folder that relative paths of the settings start from
    processes: int
    resume: str | None  # where it goes on from
    request: str | None  # what it was asked for and has not done yet: stop, pause or stop_now
    trainer: dict | None  # the process, as a lock names it; None while running: it was to be started, but perhaps never was
    events_before: int  # bytes of events.jsonl from earlier parts of the run


class Queue:
    """All jobs of a state folder. Every method may be called from several processes and threads at once."""

    def __init__(self, state_dir: Path):
        self.path = Path(state_dir) / "queue.sqlite"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.opened() as rows:
            rows.execute("pragma journal_mode=wal")
            rows.execute(TABLE)

    @contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """The table, for a single statement or to read."""
        rows = sqlite3.connect(self.path, timeout=SECONDS_TO_WAIT, isolation_level=None)
        rows.row_factory = sqlite3.Row
        try:
            yield rows
        finally:
            rows.close()

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """The table for this process alone; all of the block's changes are kept, or none."""
        with self.opened() as rows:
            rows.execute("begin immediate")
            try:
                yield rows
                rows.execute("commit")
            except BaseException:
                rows.execute("rollback")
                raise

    # What the page does.

    def add(self, config: Config, name: str, processes: int = 1) -> int:
        """Put a run at the end of the queue, with a folder of its own that holds its config.toml; returns its number. Raises Faults."""
        if COMMANDS[config.command].is_tool:
            raise Faults(f"{config.command} is no training; only trainings can be queued.")
        run_dir = made_folder(config, name)
        self.refuse_taken(run_dir)
        write_settings(run_dir, config)
        fields = {"name": name, "command": config.command, "settings": settings(config), "run_dir": str(run_dir), "here": str(Path.cwd()), "processes": processes,
                  "status": "waiting", "added_at": time.time(), "resume": config.saving.resume}
        names, marks = ", ".join(fields), ", ".join("?" * len(fields))
        with self.changing() as rows:
            added = rows.execute(f"insert into jobs (position, {names}) values ((select ifnull(max(position), 0) + 1 from jobs), {marks})", [*fields.values()])
            return added.lastrowid

    def jobs(self) -> list[Job]:
        """All jobs, oldest first; those that wait stand in the order in which they will run."""
        with self.opened() as rows:
            return [job_of(row) for row in rows.execute("select * from jobs order by position")]

    def job(self, id: int) -> Job:
        """One job. Raises Faults where there is none of this number."""
        with self.opened() as rows:
            return self.found(rows, id)

    def move(self, id: int, by: int) -> None:
        """Let a waiting job run so many places earlier (by < 0) or later. Raises Faults where it does not wait."""
        with self.changing() as rows:
            self.expect(self.found(rows, id), ("waiting",), "moved")
            waiting = rows.execute("select id, position from jobs where status = 'waiting' order by position").fetchall()
            order = [row["id"] for row in waiting]
            place = order.index(id)
            order.insert(min(max(place + by, 0), len(order) - 1), order.pop(place))
            rows.executemany("update jobs set position = ? where id = ?", zip([row["position"] for row in waiting], order))

    def remove(self, id: int) -> None:
        """Forget a job that waits or has ended; its files stay, unless it never began. Raises Faults where it runs."""
        with self.changing() as rows:
            job = self.found(rows, id)
            self.expect(job, ("waiting", *ENDED), "removed")
            rows.execute("delete from jobs where id = ?", [id])
        left = sorted(path.name for path in job.run_dir.iterdir()) if job.run_dir.is_dir() else []
        if left == ["config.toml"]:
            (job.run_dir / "config.toml").unlink()
            job.run_dir.rmdir()

    def replace(self, id: int, config: Config) -> None:
        """Give a waiting job other settings; its folder stays. Raises Faults where it does not wait."""
        with self.changing() as rows:
            job = self.found(rows, id)
            self.expect(job, ("waiting",), "changed")
            rows.execute("update jobs set command = ?, settings = ?, here = ?, resume = ? where id = ?",
                         [config.command, settings(config), str(Path.cwd()), config.saving.resume or job.resume, id])
            write_settings(job.run_dir, config)

    def ask(self, id: int, request: str) -> None:
        """Ask a running job for one of CONTROLS: stop, pause, save_now, sample_now. Raises Faults where it does not run."""
        if request not in CONTROLS:
            raise ValueError(f"{request} is none of {CONTROLS}")
        with self.changing() as rows:
            job = self.found(rows, id)
            self.expect(job, ("running",), "asked")
            if request in KEPT_REQUESTS:
                rows.execute("update jobs set request = ? where id = ?", [request, id])
            RunFolder(job.run_dir).ask(request)

    def stop_now(self, id: int) -> None:
        """End a running job's trainer at once, without a state. Raises Faults where it does not run."""
        with self.changing() as rows:
            job = self.found(rows, id)
            self.expect(job, ("running",), "stopped")
            rows.execute("update jobs set request = ? where id = ?", [STOP_NOW, id])
        trainer = living_trainer(job.run_dir, job.trainer)
        if trainer:
            end_at_once(trainer)

    def resume(self, id: int) -> None:
        """Let a paused, stopped or failed job wait again, at the end of the queue, to go on from its newest state.

        A job that has no state begins anew in a new folder; what it did before stays where it is. Raises Faults.
        """
        with self.changing() as rows:
            job = self.found(rows, id)
            self.expect(job, MAY_GO_ON, "resumed")
            run_dir, state = job.run_dir, newest_state(job)
            if state is None and (run_dir / "events.jsonl").exists():
                run_dir = new_folder(run_dir.parent, f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{safe_name(job.name)}")
                (run_dir / "config.toml").write_bytes((job.run_dir / "config.toml").read_bytes())
            last = rows.execute("select max(position) from jobs").fetchone()[0]
            rows.execute("update jobs set status = 'waiting', position = ?, run_dir = ?, resume = ?, ended_at = null, exit_code = null, message = '', "
                         "request = null, pid = null, created = null where id = ?", [last + 1, str(run_dir), state or job.resume, id])

    # What the worker does.

    def take(self) -> Job | None:
        """The next waiting job, from now on running, its trainer yet to be started; None where one runs already or none waits."""
        with self.changing() as rows:
            if rows.execute("select 1 from jobs where status = 'running'").fetchone():
                return None
            row = rows.execute("select * from jobs where status = 'waiting' order by position limit 1").fetchone()
            if row is None:
                return None
            events = Path(row["run_dir"]) / "events.jsonl"
            size = events.stat().st_size if events.exists() else 0
            rows.execute("update jobs set status = 'running', started_at = ?, events_before = ?, request = null, pid = null, created = null where id = ?",
                         [time.time(), size, row["id"]])
            return self.found(rows, row["id"])

    def running(self) -> list[Job]:
        """The jobs that run, or are to be running."""
        with self.opened() as rows:
            return [job_of(row) for row in rows.execute("select * from jobs where status = 'running' order by position")]

    def started(self, id: int, trainer: dict) -> None:
        """Remember the process of a running job."""
        with self.opened() as rows:
            rows.execute("update jobs set pid = ?, created = ? where id = ? and status = 'running'", [trainer["pid"], trainer["created"], id])

    def wait_again(self, id: int) -> None:
        """A job that was to be started and never was waits in its old place."""
        with self.opened() as rows:
            rows.execute("update jobs set status = 'waiting', started_at = null where id = ? and status = 'running'", [id])

    def ended(self, id: int, status: str, message: str, exit_code: int | None) -> None:
        """Remember how a running job ended."""
        with self.opened() as rows:
            rows.execute("update jobs set status = ?, message = ?, exit_code = ?, ended_at = ?, request = null, pid = null, created = null "
                         "where id = ? and status = 'running'", [status, message, exit_code, time.time(), id])

    def found(self, rows: sqlite3.Connection, id: int) -> Job:
        """A job as the table has it now. Raises Faults."""
        row = rows.execute("select * from jobs where id = ?", [id]).fetchone()
        if row is None:
            raise Faults(f"There is no job {id}; it was removed.")
        return job_of(row)

    def expect(self, job: Job, statuses: tuple[str, ...], done: str) -> None:
        """Raises Faults where a job is in none of these."""
        if job.status not in statuses:
            raise Faults(f'The job "{job.name}" cannot be {done}: it is {job.status}, not {" or ".join(statuses)}.')

    def refuse_taken(self, run_dir: Path) -> None:
        """Raises Faults where another run has the folder."""
        if (run_dir / "events.jsonl").exists() or any(job.run_dir == run_dir for job in self.jobs()):
            raise Faults(f"run_dir is {run_dir}, but that is another run's. Name another folder, or leave run_dir empty.")


def job_of(row: sqlite3.Row) -> Job:
    """A row of the table as a job."""
    trainer = {"pid": row["pid"], "created": row["created"], "host": platform.node()} if row["pid"] else None
    return Job(row["id"], row["name"], row["command"], json.loads(row["settings"]), Path(row["run_dir"]), row["status"], row["added_at"],
               row["started_at"], row["ended_at"], row["exit_code"], row["message"], Path(row["here"]), row["processes"], row["resume"], row["request"], trainer,
               row["events_before"])


def made_folder(config: Config, name: str) -> Path:
    """The run's folder: run_dir, or a new one in runs_dir. Raises Faults where none can be made."""
    options = config.run
    try:
        if not options.run_dir:
            return new_folder(Path(options.runs_dir).absolute(), f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{safe_name(name)}")
        Path(options.run_dir).mkdir(parents=True, exist_ok=True)
        return Path(options.run_dir).absolute()
    except OSError as error:
        option, value = ("run_dir", options.run_dir) if options.run_dir else ("runs_dir", options.runs_dir)
        raise Faults(f"{option} is {value}, but no folder can be made there: {error.strerror or error}. Name another place.") from None


def write_settings(run_dir: Path, config: Config) -> None:
    """config.toml of a run that is yet to begin. Which folder it is, and where it goes on from, is told on the command line."""
    write_config(run_dir / "config.toml", config.replace(run_dir=None, resume=None))


def settings(config: Config) -> str:
    """The options as JSON, without secrets and without what belongs to one run alone."""
    fields = fields_of(config.command)
    kept = {name: value for name, value in config.values().items() if not facts_of(fields[name][1]).secret}
    return json.dumps({**kept, "run_dir": None, "resume": None}, default=str)


def newest_state(job: Job) -> str | None:
    """Where a job goes on from: its folder if the newest state lies there, else that state itself; None where it has none."""
    put_back(job.run_dir)
    told = [Path(event.get("path") or event.get("state") or "") for event in read_events(job.run_dir / "events.jsonl") if event["kind"] in ("saved", "stopped")]
    states = {path for path in [*told, *job.run_dir.glob(STATE_NAMES)] if path.match(STATE_NAMES) and newness(path)[0] >= 0}
    if not states:
        return None
    newest = max(states, key=newness)
    # In its own folder an older one is found too, should the newest be damaged.
    return str(job.run_dir if newest.parent.resolve() == job.run_dir.resolve() else newest)
