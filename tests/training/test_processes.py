"""Where a process computes, and how long it waits for the others. Each in a fresh process, because accelerate decides only once."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BEGINNING = "import datetime, os, torch; from backend.training.options import TrainingOptions; from backend.training.processes import Processes; "


def said(code: str) -> str:
    """What a fresh process prints."""
    environment = {name: value for name, value in os.environ.items() if name != "CUBLAS_WORKSPACE_CONFIG"}
    return subprocess.run([sys.executable, "-c", BEGINNING + code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def test_a_mac_computes_on_its_processor():
    apple = "torch.backends.mps.is_available = torch.backends.mps.is_built = lambda: True; "
    assert said(apple + "print(Processes(TrainingOptions()).device.type)") == "cpu"


def test_the_others_wait_for_hours_while_the_first_draws_samples():
    assert said("print(Processes(TrainingOptions()).accelerator.init_handler.timeout > datetime.timedelta(hours=12))") == "True"


def test_deterministic_has_cublas_repeat_itself():
    """The two values that NVIDIA names for it (cuBLAS, 2.1.4 Results Reproducibility)."""
    assert said("Processes(TrainingOptions(deterministic=True)); print(os.environ['CUBLAS_WORKSPACE_CONFIG'])") in (":4096:8", ":16:8")
