"""The demo's model: tiny and random, but with every part and layer of a Stable Diffusion 1 checkpoint."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from backend.demo.layout import SDSizes, random_checkpoint
from backend.files import written_whole

NAME = "demo_model.safetensors"
SIZES = SDSizes(
    unet_channels=(32, 64, 64, 64), unet_layers=1, vae_channels=(16, 16, 32, 32), vae_layers=1, text_width=64, text_layers=2)


def demo_model(folder: Path) -> Path:
    """The demo's model file: the one that comes with the project where there is one, else one made in the folder, once."""
    shipped = Path(__file__).parent / NAME
    if shipped.exists():
        return shipped
    made = Path(folder) / NAME
    return made if made.exists() else make_demo_model(made)


def make_demo_model(path: Path, seed: int = 0) -> Path:
    """Write a random model as fp16 .safetensors in the original layout, about 11 MB; the same bytes for the same seed."""
    path = Path(path)
    weights = {name: weight.astype(np.float16) for name, weight in random_checkpoint(SIZES, seed).items()}
    with written_whole(path) as draft:
        save_file(weights, draft, metadata={"format": "pt"})
    return path
