"""How a run is shown: pieces of HTML, made from its folder."""

from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gui.history import Progress
from gui.text import text

COLOURS = {"waiting": "", "running": "g", "finished": "g", "failed": "r", "stopped": "y", "paused": "y"}
POINTS = 240  # of a curve; more than a screen can show apart
LOG_BYTES, LOG_LINES = 16_384, 60
BUTTONS = {"running": ("sample_now", "save_now", "pause", "stop", "stop_now"), "paused": ("resume", "remove"), "stopped": ("resume", "remove"),
           "failed": ("resume", "remove"), "waiting": ("remove",), "finished": ("remove",)}


def badge(status: str, language: str) -> str:
    """A run's state, by word and by colour."""
    return f'<span class="chip {COLOURS.get(status, "")}"><i class="dot {COLOURS.get(status, "")}"></i>{escape(text(f"page.status_{status}", language))}</span>'


def job_card(job: Any, told: Progress, chosen: bool, language: str) -> str:
    """A run in the list."""
    words = text(f"page.status_{job.status}", language)
    if job.status == "running" and told.total:
        words = f"{told.step:,} / {told.total:,}" + (f" · {time_words(told.seconds_left, language)}" if told.seconds_left else "")
    bar = f'<span class="bar"><i style="width:{percent(told)}%"></i></span>' if job.status in ("running", "paused", "stopped") and told.total else ""
    return (f'<button type=button class="run {"on" if chosen else ""}" data-job="{job.id}"><b><i class="dot {COLOURS.get(job.status, "")}"></i>{escape(job.name)}</b>'
            f"<small>{escape(words)} · {when(job.added_at)}</small>{bar}</button>")


def head(job: Any, told: Progress, language: str) -> str:
    """Name, state, buttons and how far it is."""
    buttons = "".join(button(job, act, language) for act in BUTTONS.get(job.status, ()))
    message = f'<div class="note {"bad" if job.status == "failed" else ""}">{escape(job.message)}</div>' if job.message and job.status != "finished" else ""
    return (f'<div class=row><h3>{escape(job.name)}</h3>{badge(job.status, language)}<span class=grow></span>{buttons}</div>'
            f'<div class="bar"><i style="width:{percent(told) if job.status != "finished" else 100}%"></i></div>{figures(told, job.status, language)}{message}')


def button(job: Any, act: str, language: str) -> str:
    """One thing that can be done to a run now."""
    ask = f' data-ask="{escape(text(f"page.sure_{act}", language))}"' if act in ("stop_now", "remove") else ""
    return f'<button type=button class="btn" data-act="{act}" data-of="{job.id}"{ask}>{escape(text(f"page.act_{act}", language))}</button>'


def figures(told: Progress, status: str, language: str) -> str:
    """Six of them."""
    running = status == "running"
    values = [
        ("step", f"{told.step:,} / {told.total:,}" if told.total else "–"), ("epoch", f"{told.epoch:,} / {told.epochs:,}" if told.epoch else "–"),
        ("speed", f"{told.speed:.2g} it/s" if told.speed else "–"),
        ("left", time_words(told.seconds_left, language) if running and told.seconds_left is not None else "–"),
        ("loss", f"{told.loss:.4f}" if told.loss is not None else "–"), ("rate", f"{told.rate:.2e}".replace("e-0", "e-") if told.rate is not None else "–")]
    return "<div class=fig>" + "".join(f"<div><small>{escape(text(f'page.figure_{key}', language))}</small><b>{value}</b></div>" for key, value in values) + "</div>"


def percent(told: Progress) -> int:
    """How much is done."""
    return round(100 * told.step / told.total) if told.total else 0


def time_words(seconds: float | None, language: str) -> str:
    """A length of time as a person says it."""
    if seconds is None:
        return ""
    if seconds < 90:
        return text("page.seconds", language, count=round(seconds))
    return text("page.minutes", language, count=round(seconds / 60)) if seconds < 5400 else text("page.hours", language, count=f"{seconds / 3600:.1f}")


def when(moment: float | str | None) -> str:
    """The time of day, with the day where it is another one."""
    if not moment:
        return ""
    at = datetime.fromisoformat(moment) if isinstance(moment, str) else datetime.fromtimestamp(moment)
    return f"{at:%H:%M}" if at.date() == datetime.now().date() else f"{at:%Y-%m-%d}"


def curves(events: list[dict], total: int, language: str) -> str:
    """Loss and learning rate, with the road still to go."""
    steps = [event for event in events if event["kind"] == "step"]
    loss = [(event["step"], event["loss"]) for event in steps if event.get("loss") is not None]
    average = [(event["step"], event["average"]) for event in steps if event.get("average") is not None]
    rate = [(event["step"], next(iter(event["lr"].values()))) for event in steps if event.get("lr")]
    return card(text("page.loss", language), chart([loss, average], total)) + card(text("page.figure_rate", language), chart([[], rate], total))


def card(title: str, body: str) -> str:
    """A titled card."""
    return f"<div class=card><h3>{escape(title)}</h3>{body}</div>"


def chart(lines: list[list[tuple[float, float]]], total: int) -> str:
    """Lines over the steps of the whole run, the last one in colour; the scale's ends are written beside it."""
    values = [value for line in lines for _, value in line]
    if not values:
        return '<svg viewBox="0 0 400 120" preserveAspectRatio="none"></svg><div class="scale"><span>&nbsp;</span></div>'
    # One outlier must not flatten all the rest.
    low, high = min(values), sorted(values)[int(0.99 * (len(values) - 1))]
    paths = "".join(f'<path class="{name}" d="{path(line, low, high, total)}"/>' for line, name in zip(lines, ("raw", "smooth")) if line)
    return (f'<svg viewBox="0 0 400 120" preserveAspectRatio="none">{paths}</svg>'
            f'<div class="scale"><span>{low:.3g} … {high:.3g}</span><span>{total:,}</span></div>')


def path(line: list[tuple[float, float]], low: float, high: float, total: int) -> str:
    """A line as SVG draws it, 400 by 120."""
    stride = max(1, len(line) // POINTS)
    kept = line[::stride] + ([line[-1]] if (len(line) - 1) % stride else [])
    span = (high - low) or abs(high) or 1
    points = [f"{400 * step / max(total, 1):.1f} {112 - 104 * min(max((value - low) / span, 0), 1):.1f}" for step, value in kept]
    return "M" + " L".join(points)


def samples(job: Any, events: list[dict], language: str) -> str:
    """The newest picture of each prompt, newest step first."""
    drawn = [event for event in events if event["kind"] == "sample"][::-1][:12]
    if not drawn:
        return card(text("page.samples", language), f"<p class=soft>{escape(text('page.no_samples', language))}</p>")
    pictures = "".join(picture(job, event, language) for event in drawn)
    return card(text("page.samples", language), f"<div class=strip>{pictures}</div>")


def picture(job: Any, event: dict, language: str) -> str:
    """One sample picture with its step."""
    address = file_address(job, event["path"])
    words = text("page.at_step", language, step=f"{event['step']:,}")
    return f'<a href="{address}" target="_blank"><img src="{address}" alt="{escape(words)}" loading="lazy"><u>{escape(words)}</u></a>'


def file_address(job: Any, path: str) -> str:
    """Where the browser gets a file of a run. FILES: is replaced there by the place of the files' route."""
    found = Path(path)
    try:
        name = found.resolve().relative_to(Path(job.run_dir).resolve()).as_posix()
    except ValueError:
        name = found.name
    return escape(f"FILES:/{job.id}/{quote(name)}")


def files(job: Any, events: list[dict], language: str) -> str:
    """What the run has written, to take home."""
    saved = {event["path"]: event for event in events if event["kind"] == "saved" and Path(event["path"]).is_file()}
    if not saved:
        return card(text("page.files", language), f"<p class=soft>{escape(text('page.no_files', language))}</p>")
    rows = "".join(f'<li><a href="{file_address(job, path)}" download>{escape(Path(path).name)}</a><span>{size_words(Path(path).stat().st_size)}</span></li>'
                   for path in reversed(saved))
    return card(text("page.files", language), f"<ul class=files>{rows}</ul><small class=soft>{escape(str(Path(list(saved)[-1]).parent))}</small>")


def size_words(size: int) -> str:
    """Bytes as a person says them."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def warnings(events: list[dict]) -> str:
    """What the run has warned of."""
    told = dict.fromkeys(event.get("text", "") for event in events if event["kind"] == "warning")
    failed = [line for event in events[-3:] if event["kind"] == "failed" for line in event.get("messages", [])]
    return "".join(f'<div class="note bad">{escape(line)}</div>' for line in failed) + "".join(f'<div class="note warn">{escape(line)}</div>' for line in told)


def log_tail(run_dir: Path, language: str) -> str:
    """The last lines of the run's log."""
    try:
        with open(Path(run_dir) / "log.txt", "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - LOG_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()[-LOG_LINES:]
    except OSError:
        lines = []
    return card(text("page.log", language), f"<pre>{escape(chr(10).join(lines))}</pre>")
