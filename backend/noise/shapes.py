"""What is added to plain noise."""

from typing import Sequence

from torch import Tensor

from backend.noise.draws import normal


def offset_noise(noise: Tensor, seeds: Sequence[int], strength: float) -> Tensor:
    """Noise [B, C, h, w] with each channel shifted as a whole (Guttenberg 2023, "Diffusion with offset noise")."""
    return noise + strength * normal((noise.shape[1], 1, 1), seeds, "noise offset").to(noise)
