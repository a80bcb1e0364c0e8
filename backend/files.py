"""Files that are whole or not there: written beside their place, flushed, renamed."""

import os
import re
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterator

UNFINISHED = ".unfinished-"  # no search for states, weights or samples matches a name that begins so
ASIDE = "+"  # stands behind the writer's number, where a draft has "-", in the name of what stepped aside for a newer one
LEFT = re.compile(rf"{re.escape(UNFINISHED)}(\d+)([-{ASIDE}])(.+)", re.DOTALL)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A place to write to; it takes the name `path` when the block ends well, and vanishes when it does not.

    A kill at any instant leaves either the old file or the new one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix is kept last, because some writers choose their format by it.
    draft = path.with_name(f"{UNFINISHED}{os.getpid()}-{path.name}")
    try:
        yield draft
        flush_to_disk(draft)
        os.replace(draft, path)
        flush_folder(path.parent)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


@contextmanager
def folder_written_whole(path: Path) -> Iterator[Path]:
    """A new folder to fill; it takes the name `path` when the block ends well. An older folder of that name is replaced."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{UNFINISHED}{os.getpid()}-{path.name}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        yield draft
        for file in sorted(draft.rglob("*")):
            if file.is_file():
                flush_to_disk(file)
        flush_folder(draft)
        replace_folder(draft, path)
        flush_folder(path.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def replace_folder(draft: Path, path: Path) -> None:
    """Give `draft` the name `path`. Folders cannot be exchanged in one act, so the old one steps aside first."""
    if not path.exists():
        os.replace(draft, path)
        return
    old = path.with_name(f"{UNFINISHED}{os.getpid()}{ASIDE}{path.name}")
    shutil.rmtree(old, ignore_errors=True)
    os.replace(path, old)
    os.replace(draft, path)
    shutil.rmtree(old, ignore_errors=True)


def put_back(folder: Path) -> None:
    """Give folders their names back that stepped aside for newer ones, where the writer was killed before those took their place."""
    for left in Path(folder).glob(f"{UNFINISHED}*"):
        found = LEFT.fullmatch(left.name)
        if found and found[2] == ASIDE and not writer_lives(left) and not (left.parent / found[3]).exists():
            with suppress(OSError):  # another process may have been quicker, or the folder may be for reading only
                os.replace(left, left.parent / found[3])


def remove_folder(path: Path) -> None:
    """Remove a folder; a kill in between leaves it whole, or under a name that nobody looks for."""
    leaving = path.with_name(f"{UNFINISHED}{os.getpid()}-gone-{path.name}")
    shutil.rmtree(leaving, ignore_errors=True)
    os.replace(path, leaving)
    shutil.rmtree(leaving)


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, whole or not at all."""
    with written_whole(path) as draft:
        draft.write_text(text, encoding="utf-8", newline="\n")


def sweep_unfinished(folder: Path) -> None:
    """Remove what a killed writer left in a folder: only names that begin with UNFINISHED and whose writer is gone."""
    put_back(folder)
    for left in Path(folder).glob(f"{UNFINISHED}*"):
        if not writer_lives(left):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)


def writer_lives(left: Path) -> bool:
    """Whether the process still runs that gave something a name with UNFINISHED and its own number."""
    import psutil

    found = LEFT.fullmatch(left.name)
    return bool(found) and psutil.pid_exists(int(found[1]))


def flush_to_disk(path: Path) -> None:
    """Wait until the file's bytes are on the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def flush_folder(path: Path) -> None:
    """Wait until the folder's entries are on the disk (Windows does that by itself)."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
