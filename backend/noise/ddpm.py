"""Denoising diffusion in 1000 steps (Ho et al. 2020), with the noise levels of Stable Diffusion."""

from typing import Literal, Sequence

import torch
from torch import Tensor

from backend.noise.draws import normal, sent_to
from backend.noise.options import NoiseOptions
from backend.noise.process import NoiseProcess
from backend.noise.shapes import offset_noise
from backend.noise.weights import min_snr
from backend.randomness import seed_for

STEPS = 1000
FIRST_BETA, LAST_BETA = 0.00085, 0.012


class DDPM(NoiseProcess):
    """Noise levels 0..999; the denoiser says the noise (epsilon), or v (Salimans & Ho 2022)."""

    def __init__(self, options: NoiseOptions, prediction: Literal["epsilon", "v"] = "epsilon"):
        self.options = options
        self.prediction = prediction
        self.alphas_bar = scaled_linear_alphas_bar()

    def draw_times(self, seeds: Sequence[int]) -> Tensor:
        """Uniform whole numbers in 0..999: int64 [B], on the CPU."""
        return torch.tensor([seed_for(seed, "time") % STEPS for seed in seeds], dtype=torch.int64)

    def draw_noise(self, x: Tensor, seeds: Sequence[int]) -> Tensor:
        """Noise like x. Drawn on the CPU, so that a GPU gets the same."""
        noise = normal(x.shape[1:], seeds, "noise")
        if self.options.noise_offset:
            noise = offset_noise(noise, seeds, self.options.noise_offset)
        return sent_to(x, noise)

    def mix(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Latents at noise level t (Ho et al. 2020, eq. 4). t: [B] int in 0..999."""
        signal, spread = self.factors(x, t)
        return signal * x + spread * noise

    def target(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The noise, or v = signal * noise - spread * x."""
        if self.prediction == "epsilon":
            return noise
        signal, spread = self.factors(x, t)
        return signal * noise - spread * x

    def snr(self, t: Tensor) -> Tensor:
        """Signal power over noise power, float32 [B]."""
        alphas_bar = self.at(t)
        return alphas_bar / (1 - alphas_bar)

    def weights(self, t: Tensor) -> Tensor:
        """One for every sample, or min-SNR weights: float32 [B]."""
        if self.options.min_snr_gamma is None:
            return torch.ones(len(t), device=t.device)
        return min_snr(self.snr(t), self.options.min_snr_gamma, self.prediction)

    def factors(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """What the clean latents and the noise are multiplied by, shaped to go with x."""
        alphas_bar = self.at(t).view(-1, *[1] * (x.dim() - 1))
        return alphas_bar.sqrt().to(x.dtype), (1 - alphas_bar).sqrt().to(x.dtype)

    def at(self, t: Tensor) -> Tensor:
        """The cumulative product of alphas at t, where t lives."""
        self.alphas_bar = self.alphas_bar.to(t.device)
        return self.alphas_bar[t]


def scaled_linear_alphas_bar() -> Tensor:
    """Cumulative products of 1 - beta, with the square roots of beta evenly spaced (Rombach et al. 2022): float32 [1000]."""
    betas = torch.linspace(FIRST_BETA ** 0.5, LAST_BETA ** 0.5, STEPS, dtype=torch.float32) ** 2
    return torch.cumprod(1 - betas, dim=0)
