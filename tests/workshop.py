"""A workbench for tests that train for real: a folder of photographs, the tiny model, and processes that start quickly.

Trainers run as child processes of a fork server which has the slow libraries loaded already, so that a test can start, kill
and restart many of them. What runs in them is the command itself.
"""

import json
import multiprocessing
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from tests.tiny import tiny_sd_checkpoint

ROOT = Path(__file__).resolve().parent.parent
SHAPES = [(96, 96), (128, 80), (80, 130), (150, 60), (97, 101), (64, 128)]
FORMATS = ["png", "jpg", "webp", "bmp", "jpeg", "PNG"]


def photographs() -> list[Image.Image]:
    """Real pictures, from a package that ships them."""
    from skimage import data

    return [Image.fromarray(getattr(data, name)()) for name in ("astronaut", "chelsea", "coffee", "rocket")]


def picture_folder(folder: Path, count: int = 6, captions: str = "half") -> Path:
    """A training folder `10_sks cat`-like with photographs of several shapes and formats. captions: none, half or all."""
    folder.mkdir(parents=True, exist_ok=True)
    photos = photographs()
    for number in range(count):
        picture = photos[number % len(photos)].convert("RGB")
        picture = picture.crop((number * 7, number * 5, picture.width - number * 3, picture.height - number * 4))
        path = folder / f"photo_{number}.{FORMATS[number % len(FORMATS)]}"
        picture.resize(SHAPES[number % len(SHAPES)], Image.Resampling.LANCZOS).save(path)
        if captions == "all" or captions == "half" and number % 2 == 0:
            path.with_suffix(".caption").write_text(f"a photo of sks cat, number {number}, on a table, soft light\n", encoding="utf-8")
    return folder


def workbench(folder: Path) -> dict:
    """Everything a run needs, in a folder: options for a short training that has all sorts of chance in it."""
    model = folder / "tiny.safetensors"
    if not model.exists():
        tiny_sd_checkpoint(model)
        picture_folder(folder / "train" / "2_sks cat")
        picture_folder(folder / "reg" / "1_cat", count=3, captions="none")
        (folder / "prompts.txt").write_text("a photo of sks cat --w 64 --h 64 --s 2 --d 1\n", encoding="utf-8")
    return {
        "pretrained_model_name_or_path": str(model), "train_data_dir": str(folder / "train"), "reg_data_dir": str(folder / "reg"),
        "resolution": "96", "enable_bucket": True, "min_bucket_reso": 64, "max_bucket_reso": 160, "bucket_reso_steps": 32,
        "train_batch_size": 2, "gradient_accumulation_steps": 2, "max_train_steps": 10, "learning_rate": 1e-3, "lr_scheduler": "cosine",
        "lr_warmup_steps": 2, "flip_aug": True, "shuffle_caption": True, "keep_tokens": 1, "caption_dropout_rate": 0.2, "noise_offset": 0.1,
        "min_snr_gamma": 5.0, "prior_loss_weight": 0.7, "network_dim": 4, "network_alpha": 2.0, "network_dropout": 0.1,
        "network_args": ["conv_dim=2", "rank_dropout=0.1", "module_dropout=0.1"], "seed": 3, "max_data_loader_n_workers": 0,
        "runs_dir": str(folder / "runs"), "rolling_state_minutes": 0.0,
    }


def as_flags(options: dict) -> list[str]:
    """Options as the words of a command line."""
    words = []
    for name, value in options.items():
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no_{name}")
        elif value is not None:
            values = value if isinstance(value, list) else [value]
            words += [f"--{name}", *map(str, values)]
    return words


def start(words: list[str], log: Path, here: Path = ROOT) -> multiprocessing.Process:
    """Run `python -m backend WORDS` in a fresh child of the fork server, from the folder `here`; its output goes to `log`."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["tests.preload"])
    child = server.Process(target=run_command, args=(words, str(log), str(here)))
    child.start()
    return child


def run_command(words: list[str], log: str, here: str) -> None:
    """What the child does."""
    import torch

    os.chdir(here)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    torch.set_num_threads(1)
    from backend.__main__ import main

    sys.exit(main(words))


def train(options: dict, log: Path, here: Path = ROOT) -> int:
    """Train to the end in a child process, from the folder `here`; returns its exit code. On a surprise the log tells why."""
    child = start(["train_network", *as_flags(options)], log, here)
    child.join()
    return child.exitcode


def events(run: Path) -> list[dict]:
    """The lines of a run's events, as written (a torn last one left out)."""
    path = Path(run) / "events.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines if line.strip()]


def file_facts(path: Path) -> dict[str, str]:
    """The metadata of a .safetensors file, read by the library that owns the format."""
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        return file.metadata()


def tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a .safetensors file."""
    from safetensors.numpy import load_file

    return load_file(path)
