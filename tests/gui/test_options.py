"""The words that start the page."""

import subprocess
import sys
from pathlib import Path

import pytest

from backend.faults import Faults
from gui.options import read_page_words

ROOT = Path(__file__).resolve().parents[2]


def options(*words):
    return read_page_words(list(words)).options


def test_without_words_the_page_is_for_this_machine():
    found = options()
    assert (found.listen, found.server_port, found.share) == ("127.0.0.1", 7860, False)


def test_words_are_read_as_the_trainers_are():
    found = options("--listen", "--port=7999", "--share", "--allowed_paths", "a", "b c", "--language", "JA", "--root_path", "dark/room/", "--headless", "false")
    assert (found.listen, found.server_port, found.share, found.headless) == ("0.0.0.0", 7999, True, False)
    assert found.allowed_paths == [str(Path("a").resolve()), str(Path("b c").resolve())] and found.language == "ja" and found.root_path == "/dark/room"


def test_flags_win_over_the_file(tmp_path):
    (tmp_path / "page.toml").write_text('server_port = 8000\n[folders]\nruns_dir = "elsewhere"\n', encoding="utf-8")
    found = options("--config", str(tmp_path / "page.toml"), "--server_port", "8001")
    assert (found.server_port, found.runs_dir) == (8001, str(Path("elsewhere").resolve()))


def test_all_faults_are_told_at_once(tmp_path):
    (tmp_path / "page.toml").write_text("sever_port = 8000\n", encoding="utf-8")
    with pytest.raises(Faults) as told:
        options("loose", "--server_port", "99999", "--languag", "ja", "--username", "--config", str(tmp_path / "page.toml"))
    words = "\n".join(told.value.messages)
    for part in ('"loose" belongs to no option', "server_port is 99999, but must be between 1 and 65535", "Did you mean language?", "username needs a value",
                 f"sever_port in {tmp_path / 'page.toml'} is not an option of the page. Did you mean server_port?"):
        assert part in words


def test_help_is_light_and_names_every_option():
    script = "import app, sys; app.main(['--help']); print([name for name in ('gradio', 'torch', 'fastapi', 'diffusers') if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert told.stdout.splitlines()[-1] == "[]", told.stderr
    for name in type(options()).model_fields:
        assert f"--{name}" in told.stdout
