"""What the loader hands to the loop. It has a slot for all that a batch may ever carry."""

from dataclasses import dataclass, replace

from torch import Tensor


@dataclass
class Batch:
    """Samples of one size. B: samples, H, W: pixels, h, w: latents."""

    records: list[int]  # row in Records, for each sample
    seeds: list[int]  # the sample's own seed: all its draws come from it
    counts: Tensor  # [B] 1, or 0 where a sample only pads the batch
    loss_weights: Tensor  # [B] factor on the sample's loss (regularisation, per picture)
    captions: list[str]  # as drawn
    tokens: dict[str, Tensor]  # by text encoder: int64 [B, tokens]
    sizes: Tensor  # [B, 6] original height, width, crop top, left, target height, width
    flipped: list[bool]
    pixels: Tensor | None = None  # [B, 3, H, W] in -1..1; or else latents
    latents: Tensor | None = None  # [B, 2C, h, w] mean and log-variance from the cache, raw
    masks: Tensor | None = None  # [B, 1, H, W] in 0..1
    conditioning: object | None = None  # cached text outputs; then tokens are not used

    def to(self, device) -> "Batch":
        """The same with its tensors on a device."""
        moved = {name: value.to(device, non_blocking=True) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **moved, tokens={name: ids.to(device, non_blocking=True) for name, ids in self.tokens.items()})
