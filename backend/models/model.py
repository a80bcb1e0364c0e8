"""What every family of models offers. Methods, the loop and sampling know a model only by this."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterable, Sequence

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LatentShape:
    """How pixels become latents: (raw - shift) * scale has about unit variance."""

    channels: int
    pixels: int  # along each side, per latent
    scale: float
    shift: float = 0.0

    def normalise(self, raw: Tensor) -> Tensor:
        """What the VAE gave, as the denoiser wants it. Any shape."""
        return (raw - self.shift) * self.scale

    def denormalise(self, latents: Tensor) -> Tensor:
        """What the denoiser gave, as the VAE wants it. Any shape."""
        return latents / self.scale + self.shift


@dataclass(frozen=True)
class FamilyFacts:
    """The names by which other programs know a family on disk."""

    base_model_version: str  # ss_base_model_version, such as sd_v1
    architecture: str  # modelspec.architecture of the base, such as stable-diffusion-v1
    resolution: int  # the size it was made for, pixels
    is_v2: bool = False  # ss_v2
    prediction: str = "epsilon"  # what the denoiser predicts: epsilon, v or flow
    lora_implementation: str = ""  # modelspec.implementation of networks for it


@dataclass
class LatentDistribution:
    """What the VAE says of pictures: a Gaussian for each latent, raw (not normalised). mean, log_variance: [B, C, h, w]."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """A draw, from standard normal noise of the same shape (Kingma & Welling 2014)."""
        return self.mean + torch.exp(0.5 * self.log_variance.clamp(-30.0, 20.0)) * noise


@dataclass
class Conditioning:
    """What the denoiser is told beside the noisy latents. Opaque to all but the family; every tensor's first axis is the sample."""

    tensors: dict[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, which: slice | Tensor) -> "Conditioning":
        return Conditioning({name: tensor[which] for name, tensor in self.tensors.items()})

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def to(self, *args: Any, **kwargs: Any) -> "Conditioning":
        """The same on another device or in another number format."""
        return Conditioning({name: tensor.to(*args, **kwargs) for name, tensor in self.tensors.items()})

    def with_sizes(self, sizes: Tensor) -> "Conditioning":
        """The same, knowing [B, 6] original height, width, crop top, left, target height, width (families that do not ask ignore it)."""
        return Conditioning({**self.tensors, "sizes": sizes})

    @staticmethod
    def concatenate(parts: Sequence["Conditioning"]) -> "Conditioning":
        """One conditioning of the samples of several, in order."""
        return Conditioning({name: torch.cat([part.tensors[name] for part in parts]) for name in parts[0].tensors})


@dataclass(frozen=True)
class NetworkTarget:
    """A layer that a network may adapt, and its name in network files."""

    name: str  # such as lora_unet_down_blocks_0_attentions_0_proj_in
    part: str  # such as unet
    module: nn.Module  # Linear or Conv2d
    in_attention: bool  # below a transformer: adapted by default; others only with conv_dim


class DiffusionModel(ABC):
    """A loaded model: named parts, and how they work together.

    Families differ in what `Conditioning` holds, in `noise_process`, and in names on disk; nothing outside a family's folder asks which one it is.
    """

    parts: dict[str, nn.Module]  # "unet" (or "transformer"), "text_encoder", "text_encoder_2", "vae"
    latents: LatentShape
    facts: FamilyFacts
    denoiser: str  # the part that predicts
    text_encoders: tuple[str, ...]  # the parts that read captions, in order

    @classmethod
    @abstractmethod
    def load(cls, source: Path, options: Any, dtype: torch.dtype, vae: Path | None = None) -> "DiffusionModel":
        """Read a model on the CPU, its sizes taken from its weights. options: the family's own group. Raises Faults."""

    @abstractmethod
    def tokenize(self, captions: Sequence[str]) -> dict[str, Tensor]:
        """Token ids by text encoder: each int64 [B, tokens]. Pure; used in loader processes."""

    @abstractmethod
    def encode_text(self, tokens: dict[str, Tensor]) -> Conditioning:
        """Read captions. Differentiable in the text encoders."""

    @abstractmethod
    def encode_images(self, pixels: Tensor) -> LatentDistribution:
        """pixels: [B, 3, H, W] in -1..1."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents [B, C, h, w] to pixels [B, 3, H, W] in -1..1."""

    @abstractmethod
    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """What the denoiser says of noisy latents [B, C, h, w] at times t [B]."""

    @abstractmethod
    def noise_process(self, options: Any) -> Any:
        """How this model's latents are noised: a NoiseProcess. options: NoiseOptions."""

    @abstractmethod
    def network_targets(self) -> list[NetworkTarget]:
        """Which layers a network may adapt, and their names on disk, text encoders first."""

    @abstractmethod
    def save_memory(self, gradient_checkpointing: bool, sdpa: bool) -> None:
        """Choose how attention is computed, and whether activations are computed twice."""

    def move(self, device: torch.device, parts: Iterable[str] | None = None) -> None:
        """Bring parts (all, if none are named) to a device."""
        for name in self.parts if parts is None else parts:
            self.parts[name].to(device)

    def freeze(self) -> None:
        """Let nothing be trained; a method then thaws what it trains."""
        for part in self.parts.values():
            part.requires_grad_(False)
