"""LoRA: a layer's output is changed by a product of two small matrices (Hu et al. 2021)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout


@dataclass(frozen=True)
class Dropouts:
    """Shares that are left out while training, each from 0 up to 1."""

    values: float = 0.0  # of the inner values
    ranks: float = 0.0  # of the ranks, drawn for each sample
    modules: float = 0.0  # of the calls


class LoRA(nn.Module):
    """What is added to one layer's output: up(down(x)) * alpha / rank. Float32, whatever the layer is.

    layer: Linear or Conv2d, left as it is. seed: the first weights are drawn from it alone. up is 0 at first, so that
    a fresh LoRA changes nothing.
    """

    def __init__(self, layer: nn.Module, rank: int, alpha: float, dropouts: Dropouts, seed: int):
        super().__init__()
        self.rank, self.dropouts = rank, dropouts
        self.enabled = True
        self.lora_down, self.lora_up = factors(layer, rank)
        self.register_buffer("alpha", torch.tensor(float(alpha or rank)))
        self.scale = float(alpha or rank) / rank
        generator = torch.Generator().manual_seed(seed)
        nn.init.kaiming_uniform_(self.lora_down.weight, a=math.sqrt(5), generator=generator)
        nn.init.zeros_(self.lora_up.weight)
        self.to(layer.weight.device)

    def forward(self, x: Tensor) -> Tensor:
        """The change, for the layer's input: [B, ..., in] to [B, ..., out], or [B, in, H, W] to [B, out, h, w]."""
        # Autocast chooses the number format by itself; without it the change is computed as precisely as it is kept.
        if not torch.is_autocast_enabled(x.device.type):
            x = x.to(self.lora_down.weight.dtype)
        inner = dropout(self.lora_down(x), self.dropouts.values, self.training)
        if self.training and self.dropouts.ranks:
            inner = inner * self.kept_ranks(inner)
        return self.lora_up(inner) * self.scale

    def kept_ranks(self, inner: Tensor) -> Tensor:
        """A factor for each sample and rank, 0 or what makes up for those left out; it spreads over inner's other axes."""
        kept = torch.rand((inner.shape[0], self.rank), device=inner.device) >= self.dropouts.ranks
        factor = kept.to(inner.dtype) / (1 - self.dropouts.ranks)
        if isinstance(self.lora_down, nn.Conv2d):
            return factor[:, :, None, None]
        return factor.view(inner.shape[0], *[1] * (inner.dim() - 2), self.rank)

    def change(self, layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        """The layer's forward hook: its output with the change added."""
        if not self.enabled or self.left_out():
            return None
        return output + self(arguments[0]).to(output.dtype)

    def left_out(self) -> bool:
        """Whether module dropout leaves this call out. The draw is on the CPU, so that a GPU need not be waited for."""
        return self.training and self.dropouts.modules > 0 and torch.rand(()).item() < self.dropouts.modules


def factors(layer: nn.Module, rank: int) -> tuple[nn.Module, nn.Module]:
    """The two factors for a layer, float32 and not yet filled: down as the layer reads its input, up to its outputs."""
    # skip_init, because a usual construction draws from the global generator.
    skip_init = nn.utils.skip_init
    if isinstance(layer, nn.Linear):
        return (skip_init(nn.Linear, layer.in_features, rank, bias=False, dtype=torch.float32),
                skip_init(nn.Linear, rank, layer.out_features, bias=False, dtype=torch.float32))
    if layer.groups != 1 or layer.padding_mode != "zeros":
        raise TypeError(f"no LoRA for {layer}: its convolution is in groups or pads with something else than zeros")
    down = skip_init(nn.Conv2d, layer.in_channels, rank, layer.kernel_size, bias=False, dtype=torch.float32,
                     stride=layer.stride, padding=layer.padding, dilation=layer.dilation)
    return down, skip_init(nn.Conv2d, rank, layer.out_channels, 1, bias=False, dtype=torch.float32)
