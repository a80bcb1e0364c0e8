"""Standard normal draws that belong to a sample, not to a batch, process or device."""

from typing import Any, Sequence

import torch
from torch import Tensor

from backend.randomness import seed_for


def normal(shape: Sequence[int], seeds: Sequence[int], purpose: str) -> Tensor:
    """Standard normal values [B, *shape], float32 on the CPU, each sample's from its own seed and what they are for."""
    return torch.stack([torch.randn(tuple(shape), generator=generator(seed_for(seed, purpose))) for seed in seeds])


def generator(seed: int) -> torch.Generator:
    """A source of chance on the CPU, whose numbers are the same on every machine."""
    return torch.Generator().manual_seed(seed)


def draw_latents(distribution: Any, seeds: Sequence[int]) -> Tensor:
    """Raw latents [B, C, h, w] drawn from what the VAE says (a LatentDistribution), each sample's by its own seed."""
    mean = distribution.mean
    return distribution.sample(sent_to(mean, normal(mean.shape[1:], seeds, "latents")))


def sent_to(place: Tensor, drawn: Tensor) -> Tensor:
    """What was drawn on the CPU, on the device and in the number format of `place`. The CPU does not wait until the GPU has it."""
    return drawn.to(place.device, place.dtype, non_blocking=True)
