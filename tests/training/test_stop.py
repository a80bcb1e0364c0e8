"""Asked once, a run ends after its step; asked again, at once. A launcher's echo of the first asking is not a second one."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ASKED = """
import os, signal, time
from backend.training.stop import ONE_ASKING, StopRequest
with StopRequest(lambda words: None) as request:
    os.kill(os.getpid(), signal.SIGINT)
    assert request.asked
    {between}
    os.kill(os.getpid(), signal.SIGTERM)
    print("still here", flush=True)
"""


def ended(between: str) -> tuple[int, str]:
    """How a process ends that is asked twice, and what it says after the second time."""
    done = subprocess.run([sys.executable, "-c", ASKED.replace("{between}", between)], cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stdout.strip()


def test_a_second_asking_ends_at_once():
    assert ended("time.sleep(ONE_ASKING + 0.1)") == (128 + 15, "")


def test_two_signals_of_one_asking_count_once():
    assert ended("") == (0, "still here")
