"""Sample pictures on disk: their names, and what they say of how they were drawn."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from backend.files import written_whole
from backend.sampling.prompts import Prompt

# The names by which image programs know samplers, where they have one.
KNOWN_AS = {
    "ddim": "DDIM", "pndm": "PLMS", "lms": "LMS", "euler": "Euler", "euler_a": "Euler a", "heun": "Heun", "dpm_2": "DPM2", "dpm_2_a": "DPM2 a",
    "dpmsolver": "DPM-Solver", "dpmsolver++": "DPM++ 2M", "dpmsingle": "DPM++ 2S"}


@dataclass(frozen=True)
class Drawn:
    """How a sample came about."""

    prompt: Prompt
    index: int  # the prompt's place in its file, from 0
    sampler: str  # of the run; the prompt's own wins
    seed: int  # by place; the prompt's own wins
    step: int
    epoch: int
    by_epoch: bool  # drawn because an epoch ended, and named by it
    output_name: str
    weights_hash: str | None = None  # of the weights it was drawn with, if they were saved


def save_sample(picture: Image.Image, folder: Path, drawn: Drawn, now: datetime) -> Path:
    """Write a sample as PNG, whole or not at all, with its "parameters" text; returns its path."""
    words = PngInfo()
    words.add_text("parameters", parameters(drawn))
    path = Path(folder) / sample_name(drawn, now)
    with written_whole(path) as draft:
        picture.save(draft, pnginfo=words)
    return path


def sample_name(drawn: Drawn, now: datetime) -> str:
    """<output_name>_e000002_00_20261121093000_42.png, or _000123_ by step: place, prompt, time, seed."""
    place = f"e{drawn.epoch:06d}" if drawn.by_epoch else f"{drawn.step:06d}"
    return f"{drawn.output_name}_{place}_{drawn.index:02d}_{now:%Y%m%d%H%M%S}_{seed_of(drawn)}.png"


def seed_of(drawn: Drawn) -> int:
    """The seed that the picture was drawn with."""
    return drawn.seed if drawn.prompt.seed is None else drawn.prompt.seed


def parameters(drawn: Drawn) -> str:
    """The settings in the form that AUTOMATIC1111's web UI writes and most programs read: prompt, negative prompt, then one line of pairs."""
    prompt = drawn.prompt
    sampler = (prompt.sampler or drawn.sampler).removeprefix("k_")
    pairs = {
        "Steps": prompt.steps, "Sampler": KNOWN_AS[sampler], "CFG scale": f"{prompt.scale:g}", "Seed": seed_of(drawn),
        "Size": f"{prompt.width}x{prompt.height}", "Model hash": drawn.weights_hash, "Model": drawn.output_name,
        "Trained steps": drawn.step, "Trained epochs": drawn.epoch}
    lines = [prompt.text]
    if prompt.negative:
        lines.append(f"Negative prompt: {prompt.negative}")
    lines.append(", ".join(f"{name}: {quoted(value)}" for name, value in pairs.items() if value is not None))
    return "\n".join(lines)


def quoted(value: object) -> str:
    """The value, in quotes where it holds a sign that would end it."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if set(text) & set(',:\n"') else text
