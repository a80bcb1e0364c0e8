"""A very small model of the Stable Diffusion 1 layout, for tests: all kinds of layers, the real vocabulary, 9 MB."""

from functools import cache
from pathlib import Path

from safetensors.numpy import save_file

from backend.demo.layout import SDSizes, random_checkpoint
from backend.files import written_whole

TINY = SDSizes(
    unet_channels=(16, 32, 32), unet_attention=(True, True, False), unet_layers=1,
    vae_channels=(16, 16, 32, 32), vae_layers=1, text_width=32, text_layers=3)


@cache
def tiny_weights(seed: int = 0) -> dict:
    """The tiny model's weights by their names in an original checkpoint, float32 numpy. Shared: copy before changing."""
    return random_checkpoint(TINY, seed)


def tiny_sd_checkpoint(path: Path, seed: int = 0) -> Path:
    """Write the tiny model as a .safetensors file in the original layout: 8 pixels per latent, 4 channels."""
    path = Path(path)
    with written_whole(path) as draft:
        save_file(tiny_weights(seed), draft, metadata={"format": "pt"})
    return path
