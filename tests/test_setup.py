"""The set-up script tells in one line what is missing, and leaves nothing half-made."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ["bash", "dirname", "cat", "cksum", "flock", "rm", "mv", "df", "awk", "grep", "tail", "uname"]


@pytest.fixture
def folder(tmp_path):
    """A copy of what the script needs, in a folder with a space and a letter outside ASCII."""
    place = tmp_path / "dunkle kämmer"
    (place / "tests").mkdir(parents=True)
    for name in ("setup.sh", "requirements.txt", "tests/requirements.txt"):
        shutil.copy(ROOT / name, place / name)
    shutil.copytree(ROOT / "backend", place / "backend", ignore=shutil.ignore_patterns("__pycache__"))
    return place


@pytest.fixture
def tools(tmp_path):
    """A PATH with what the script calls, and no Python."""
    place = tmp_path / "tools"
    place.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        if found:
            (place / name).symlink_to(found)
    return place


def program(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


def setup(folder, *words, path=None, **environment):
    if path:
        environment["PATH"] = str(path)
    return subprocess.run(["bash", str(folder / "setup.sh"), *words], env={**os.environ, **environment},
                          capture_output=True, text=True, timeout=300)


def test_an_old_python_is_refused_in_one_line(folder, tools):
    program(tools / "python3", '[ "$1" = --version ] && { echo Python 3.8.1; exit; }; exit 1')
    done = setup(folder, "demo", path=tools)
    assert done.returncode == 1 and not (folder / ".venv").exists()
    assert len(done.stderr.splitlines()) == 1 and "Python 3.8.1 was found" in done.stderr


def test_no_python_is_told_in_one_line(folder, tools):
    done = setup(folder, "demo", path=tools)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and "no Python was found" in done.stderr


def test_a_full_disk_is_told_before_anything_is_made(folder, tools):
    program(tools / "python3", "exit 0")
    (tools / "df").unlink()
    program(tools / "df", "echo head; echo disk 9 9 2000000 9% /")
    done = setup(folder, "demo", path=tools)
    assert done.returncode == 1 and not (folder / ".venv").exists()
    assert len(done.stderr.splitlines()) == 1 and "GB of free disk are needed" in done.stderr and "has 1 GB" in done.stderr


def test_a_silent_network_is_told_with_what_to_do(folder):
    nowhere = "http://127.0.0.1:9"
    done = setup(folder, "demo", PIP_INDEX_URL=nowhere, PIP_CONFIG_FILE="/dev/null", PIP_FIND_LINKS="",
                 PIP_EXTRA_INDEX_URL="", PIP_RETRIES="1", https_proxy=nowhere)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "could not be fetched" in done.stderr.splitlines()[-1] and "run this again" in done.stderr.splitlines()[-1]
    assert not (folder / ".venv/.darkroom-run").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to_is_told(folder):
    folder.chmod(0o555)
    try:
        done = setup(folder, "demo")
    finally:
        folder.chmod(0o755)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and "cannot be written to" in done.stderr


@pytest.mark.slow
def test_setting_up_twice_installs_once_and_mends_a_broken_environment(folder, tmp_path):
    first = setup(folder, "train_network", "--help")
    assert first.returncode == 0 and "installing" in first.stderr
    second = setup(folder, "train_network", "--help")
    assert second.returncode == 0 and second.stderr == ""
    (folder / ".venv/.darkroom-run").unlink()
    for part in (folder / ".venv/lib").glob("*/site-packages/pip"):
        shutil.rmtree(part)
    third = setup(folder, "train_network", "--help")
    assert third.returncode == 0, third.stderr
