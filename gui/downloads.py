"""Which files of a run may be fetched, and how they are sent."""

import re
from pathlib import Path

from starlette.responses import FileResponse

from backend.runs.events import read_events

SHOWN = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}  # a browser may show these; all else is saved
FORBIDDEN = re.compile(r'[\x00-\x1f\\:]')  # also what Windows would read as a drive or a separator


def file_of_run(name: str, run_dir: Path) -> Path | None:
    """The file that a name means: one in the run's folder, or one that the run itself says it wrote elsewhere. None: there is none.

    No step of the way may be a symbolic link, "..", or empty, so that nothing outside can be reached.
    """
    parts = name.split("/")
    if FORBIDDEN.search(name) or any(part in ("", ".", "..") for part in parts):
        return None
    found = plain_file(Path(run_dir), parts)
    if found or len(parts) > 1:
        return found
    written = [path for path in written_by(Path(run_dir)) if path.name == name]
    return plain_file(written[-1].parent, parts) if written else None


def written_by(run_dir: Path) -> list[Path]:
    """The weights that the run's own record names, wherever they lie; oldest first."""
    events = read_events(run_dir / "events.jsonl")
    return [Path(event["path"]) for event in events if event["kind"] == "saved" and event.get("path")]


def plain_file(folder: Path, parts: list[str]) -> Path | None:
    """The file at the end of these steps, or None where there is none or a step is a link."""
    try:
        path = folder.resolve(strict=True)
        home = path
        for part in parts:
            path = path / part
            if path.is_symlink():
                return None
        return path if path.is_file() and path.resolve().is_relative_to(home) else None
    except (OSError, ValueError):
        return None


def answer_with(path: Path) -> FileResponse:
    """The file: pictures are shown, everything else is saved."""
    kind = SHOWN.get(path.suffix.lower())
    disposition = "inline" if kind else "attachment"
    return FileResponse(path, media_type=kind or "application/octet-stream", filename=path.name, content_disposition_type=disposition)
