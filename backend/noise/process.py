"""How latents are noised: drawing of times, mixing, target, and signal-to-noise ratio."""

from abc import ABC, abstractmethod

from torch import Tensor


class NoiseProcess(ABC):
    """A family of noise levels. x: clean latents; all tensors [B, C, h, w] unless said otherwise."""

    @abstractmethod
    def draw_times(self, seeds: list[int]) -> Tensor:
        """One time for each sample, from the sample's own seed. [B], on the CPU."""

    @abstractmethod
    def draw_noise(self, x: Tensor, seeds: list[int]) -> Tensor:
        """Noise like x, each sample's from its own seed, so the same whatever the batch, process or device."""

    @abstractmethod
    def mix(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The noisy latents that the denoiser is shown."""

    @abstractmethod
    def target(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What the denoiser should say."""

    @abstractmethod
    def snr(self, t: Tensor) -> Tensor | None:
        """Signal-to-noise ratio [B], or None where there is none (flow matching)."""

    @abstractmethod
    def weights(self, t: Tensor) -> Tensor:
        """Factor on each sample's loss by its noise level: [B]."""
