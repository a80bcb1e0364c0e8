"""The tab Runs: the queue, and one run as it goes."""

import json
from html import escape
from typing import Any, Callable

import gradio as gr

from backend.faults import Faults
from backend.runs.queue import Queue
from backend.runs.worker import ensure_worker
from gui import watch
from gui.history import History, Progress, progress
from gui.text import text

REQUESTS = ("stop", "pause", "save_now", "sample_now")
PARTS = ("run-head", "run-warnings", "run-curves", "run-samples", "run-files", "run-log")


class RunsView:
    """Looks at runs for all browsers that have the page open, and does what they ask."""

    def __init__(self, state: Any, language: str):
        self.state, self.language = state, language
        self.queue = Queue(state.state_dir)
        self.histories: dict[str, History] = {}
        self.drawn: tuple = (None, ())

    def look(self, asked: str = "{}") -> dict[str, str]:
        """Pieces of the page by the id of their place."""
        wanted = read_asked(asked)
        jobs = self.queue.jobs()[::-1]
        if any(job.status in ("waiting", "running") for job in jobs):
            ensure_worker(self.state.state_dir)  # a dead one is replaced
        parts = {"runs-chip": self.chip(jobs)}
        if not wanted.get("shown"):
            return parts
        chosen = self.chosen(jobs, str(wanted.get("job", "")))
        cards = [watch.job_card(job, self.progress(job), chosen is not None and job.id == chosen.id, self.language) for job in jobs]
        parts["run-list"] = "".join(cards) or self.nothing_yet()
        return parts | (self.run(chosen) if chosen else dict.fromkeys(PARTS, ""))

    def run(self, job: Any) -> dict[str, str]:
        """The pieces of one run."""
        events, told = self.history(job), self.progress(job)
        key = (str(job.run_dir), len(events), events[-1]["time"] if events else 0)
        drawn = self.drawn
        if drawn[0] != key:  # many may watch one run, and little of it changes each second
            drawn = self.drawn = (key, (watch.warnings(events), watch.curves(events, told.total, self.language), watch.samples(job, events, self.language),
                                watch.files(job, events, self.language)))
        return dict(zip(PARTS, (watch.head(job, told, self.language), *drawn[1], watch.log_tail(job.run_dir, self.language))))

    def history(self, job: Any) -> list[dict]:
        """The events of a run."""
        path = job.run_dir / "events.jsonl"
        return self.histories.setdefault(str(path), History(path)).look()

    def progress(self, job: Any) -> Progress:
        """How far a run is."""
        return progress(self.history(job))

    def chosen(self, jobs: list[Any], wanted: str) -> Any:
        """The run that is asked for, else the one that runs, else the newest."""
        running = [job for job in jobs if job.status == "running"]
        return next((job for job in jobs if str(job.id) == wanted), (running or jobs or [None])[0])

    def chip(self, jobs: list[Any]) -> str:
        """How many run and wait, for the bar."""
        running, waiting = (sum(job.status == status for job in jobs) for status in ("running", "waiting"))
        words = text("page.busy", self.language, running=running, waiting=waiting) if running or waiting else text("page.idle", self.language)
        return f'<span class="chip {"g" if running else ""}"><i class="dot {"g" if running else ""}"></i>{escape(words)}</span>'

    def nothing_yet(self) -> str:
        """What stands there before the first run."""
        return f"<p class=soft>{escape(text('page.no_runs', self.language))}</p>"

    def act(self, asked: str = "{}") -> str:
        """Do something to a run; returns what to say of it."""
        wanted = read_asked(asked)
        try:
            self.do(int(wanted["job"]), str(wanted["act"]))
        except Faults as faults:
            return "".join(watch_note(line) for line in faults.messages)
        except (KeyError, ValueError):
            return watch_note(text("page.no_such_run", self.language))
        return ""

    def do(self, job: int, act: str) -> None:
        """One request. Raises Faults, KeyError, ValueError."""
        if act in REQUESTS:
            self.queue.ask(job, act)
        elif act in ("stop_now", "resume", "remove"):
            getattr(self.queue, act)(job)
        else:
            raise ValueError(act)
        if act == "resume":
            ensure_worker(self.state.state_dir)


def watch_note(line: str) -> str:
    """A fault in the page."""
    return f'<div class="note bad">{escape(line)}</div>'


def read_asked(asked: str) -> dict[str, Any]:
    """What a browser sent; nothing where it is no JSON."""
    try:
        found = json.loads(asked or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def served(view: RunsView) -> list[Callable]:
    """The two things that browsers call straight."""
    def look(asked: str = "{}") -> dict[str, str]:
        return view.look(asked)

    def act(asked: str = "{}") -> str:
        return view.act(asked)

    return [look, act]


def runs_tab() -> None:
    """The places that the script fills. Made inside of a Tab."""
    gr.HTML('<div id="runs-view" class="three"><div id="run-list" class="stack"></div><div class="stack"><div class="card" id="run-head"></div>'
            '<div id="run-said"></div><div id="run-warnings"></div><div id="run-curves" class="plots"></div><div id="run-samples"></div>'
            '<div id="run-files"></div><div id="run-log"></div></div></div>', elem_id="runs")
