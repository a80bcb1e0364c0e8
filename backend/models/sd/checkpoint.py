"""Stable Diffusion 1.x files: names in the original layout and in Diffusers', and sizes read off the weights' shapes.

A table of names pairs an original module with a Diffusers module; it is read in both directions. Modules inside that have the same name in both are not listed.
"""

import math
import re
from dataclasses import dataclass
from typing import Any, Mapping

from torch import Tensor

from backend.faults import Faults

UNET = "model.diffusion_model."
VAE = "first_stage_model."
TEXT = "cond_stage_model.transformer."
TEXT_MODEL = "text_model."
UNET_HEADS = 8  # on every level; it cannot be seen from the shapes
GROUPS = 32  # of group norms, or fewer where the channels are fewer
VAE_SCALE = 0.18215
RESNET = {"in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj", "out_layers.0": "norm2", "out_layers.3": "conv2", "skip_connection": "conv_shortcut"}
VAE_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
OLD_VAE_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # Diffusers before 0.15
Shapes = Mapping[str, tuple[int, ...]]
Names = dict[str, str]


@dataclass(frozen=True)
class UNetSizes:
    """The denoiser's sizes, finest level first."""

    channels: tuple[int, ...]
    attention: tuple[bool, ...]
    layers: int
    text_width: int
    channels_in: int
    channels_out: int

    def config(self) -> dict[str, Any]:
        """Arguments of diffusers' UNet2DConditionModel."""
        down = ["CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in self.attention]
        up = ["CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(self.attention)]
        return {
            "in_channels": self.channels_in, "out_channels": self.channels_out, "down_block_types": tuple(down), "up_block_types": tuple(up),
            "block_out_channels": self.channels, "layers_per_block": self.layers, "cross_attention_dim": self.text_width,
            "attention_head_dim": UNET_HEADS, "norm_num_groups": math.gcd(GROUPS, *self.channels)}

    def names(self) -> Names:
        """Diffusers modules by original modules."""
        names = {"time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2", "input_blocks.0.0": "conv_in",
                 "out.0": "conv_norm_out", "out.2": "conv_out", "middle_block.1": "mid_block.attentions.0"}
        add_resnet(names, "middle_block.0", "mid_block.resnets.0")
        add_resnet(names, "middle_block.2", "mid_block.resnets.1")
        for level in range(len(self.channels)):
            self.add_level(names, level)
        return names

    def add_level(self, names: Names, level: int) -> None:
        """One level of the way down, and the block of the way up that has the same number (which lies on another level)."""
        last = len(self.channels) - 1
        for layer in range(self.layers):
            number = level * (self.layers + 1) + layer + 1
            add_resnet(names, f"input_blocks.{number}.0", f"down_blocks.{level}.resnets.{layer}")
            names[f"input_blocks.{number}.1"] = f"down_blocks.{level}.attentions.{layer}"
        if level < last:
            names[f"input_blocks.{(level + 1) * (self.layers + 1)}.0.op"] = f"down_blocks.{level}.downsamplers.0.conv"
        attends = self.attention[last - level]
        for layer in range(self.layers + 1):
            number = level * (self.layers + 1) + layer
            add_resnet(names, f"output_blocks.{number}.0", f"up_blocks.{level}.resnets.{layer}")
            if attends:
                names[f"output_blocks.{number}.1"] = f"up_blocks.{level}.attentions.{layer}"
        if level < last:
            names[f"output_blocks.{number}.{2 if attends else 1}"] = f"up_blocks.{level}.upsamplers.0"


@dataclass(frozen=True)
class VAESizes:
    """The VAE's sizes, finest level first."""

    channels: tuple[int, ...]
    layers: int
    latent_channels: int

    def config(self) -> dict[str, Any]:
        """Arguments of diffusers' AutoencoderKL."""
        levels = len(self.channels)
        return {
            "down_block_types": ("DownEncoderBlock2D",) * levels, "up_block_types": ("UpDecoderBlock2D",) * levels, "block_out_channels": self.channels,
            "layers_per_block": self.layers, "latent_channels": self.latent_channels, "norm_num_groups": math.gcd(GROUPS, *self.channels),
            "scaling_factor": VAE_SCALE}

    def names(self) -> Names:
        """Diffusers modules by original modules."""
        names: Names = {}
        for side in ("encoder", "decoder"):
            names[f"{side}.norm_out"] = f"{side}.conv_norm_out"
            for number in (1, 2):
                add_vae_resnet(names, f"{side}.mid.block_{number}", f"{side}.mid_block.resnets.{number - 1}")
            for theirs, ours in VAE_ATTENTION.items():
                names[f"{side}.mid.attn_1.{theirs}"] = f"{side}.mid_block.attentions.0.{ours}"
        last = len(self.channels) - 1
        for level in range(last + 1):
            for layer in range(self.layers):
                add_vae_resnet(names, f"encoder.down.{level}.block.{layer}", f"encoder.down_blocks.{level}.resnets.{layer}")
            for layer in range(self.layers + 1):
                add_vae_resnet(names, f"decoder.up.{level}.block.{layer}", f"decoder.up_blocks.{last - level}.resnets.{layer}")
            names[f"encoder.down.{level}.downsample.conv"] = f"encoder.down_blocks.{level}.downsamplers.0.conv"
            names[f"decoder.up.{level}.upsample.conv"] = f"decoder.up_blocks.{last - level}.upsamplers.0.conv"
        return names


@dataclass(frozen=True)
class TextSizes:
    """The text encoder's sizes."""

    width: int
    inner_width: int
    layers: int
    vocabulary: int
    positions: int

    def config(self) -> dict[str, Any]:
        """Arguments of transformers' CLIPTextConfig."""
        return {
            "hidden_size": self.width, "intermediate_size": self.inner_width, "num_hidden_layers": self.layers, "num_attention_heads": text_heads(self.width),
            "vocab_size": self.vocabulary, "max_position_embeddings": self.positions, "projection_dim": self.width, "hidden_act": "quick_gelu"}


def text_heads(width: int) -> int:
    """CLIP's heads are 64 wide; a smaller or odd encoder has as many as divide its width."""
    heads = max(1, width // 64)
    while width % heads:
        heads -= 1
    return heads


def add_resnet(names: Names, theirs: str, ours: str) -> None:
    """A residual block of the UNet."""
    names.update({f"{theirs}.{inner}": f"{ours}.{own}" for inner, own in RESNET.items()})


def add_vae_resnet(names: Names, theirs: str, ours: str) -> None:
    """A residual block of the VAE."""
    names[theirs] = ours
    names[f"{theirs}.nin_shortcut"] = f"{ours}.conv_shortcut"


def unet_sizes(shapes: Shapes) -> UNetSizes:
    """Sizes of the denoiser from shapes by original names, without their prefix. Raises KeyError where the layout is another."""
    downs = sorted(numbers(r"input_blocks\.(\d+)\.0\.op\.weight", shapes))
    blocks = numbers(r"input_blocks\.(\d+)\.0\.in_layers\.2\.weight", shapes)
    layers = (downs[0] if downs else max(blocks, default=0) + 1) - 1
    firsts = [1 + level * (layers + 1) for level in range(len(downs) + 1)]
    return UNetSizes(
        channels=tuple(shapes[f"input_blocks.{first}.0.in_layers.2.weight"][0] for first in firsts),
        attention=tuple(f"input_blocks.{first}.1.proj_in.weight" in shapes for first in firsts),
        layers=layers,
        text_width=shapes["middle_block.1.transformer_blocks.0.attn2.to_k.weight"][1],
        channels_in=shapes["input_blocks.0.0.weight"][1],
        channels_out=shapes["out.2.weight"][0])


def vae_sizes(shapes: Shapes) -> VAESizes:
    """Sizes of the VAE from shapes by original or Diffusers names. Raises KeyError where the layout is another."""
    pattern = "encoder.down.{}.block.{}.conv1.weight" if "encoder.down.0.block.0.conv1.weight" in shapes else "encoder.down_blocks.{}.resnets.{}.conv1.weight"
    levels = count(lambda level: pattern.format(level, 0) in shapes)
    return VAESizes(
        channels=tuple(shapes[pattern.format(level, 0)][0] for level in range(levels)),
        layers=count(lambda layer: pattern.format(0, layer) in shapes),
        latent_channels=shapes["post_quant_conv.weight"][1])


def text_sizes(shapes: Shapes) -> TextSizes:
    """Sizes of the text encoder from shapes by transformers' names. Raises KeyError where the layout is another."""
    vocabulary, width = shapes["embeddings.token_embedding.weight"]
    return TextSizes(
        width=width, vocabulary=vocabulary, positions=shapes["embeddings.position_embedding.weight"][0],
        layers=count(lambda layer: f"encoder.layers.{layer}.mlp.fc1.weight" in shapes),
        inner_width=shapes["encoder.layers.0.mlp.fc1.weight"][0])


def numbers(pattern: str, names: Any) -> set[int]:
    """The numbers that stand in names at a place."""
    return {int(found[1]) for found in (re.fullmatch(pattern, name) for name in names) if found}


def count(is_there: Any) -> int:
    """How many there are from 0 on without a gap."""
    number = 0
    while is_there(number):
        number += 1
    return number


def renamed(name: str, names: Names) -> str:
    """A weight's name in the other layout: its longest listed module is replaced."""
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:cut])
        if module in names:
            return names[module] + name[len(module):]
    return name


def reversed_names(names: Names) -> Names:
    """Original modules by Diffusers modules."""
    return {ours: theirs for theirs, ours in names.items()}


def below(tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """What has a name that begins so, by the rest of the name."""
    return {name[len(prefix):]: value for name, value in tensors.items() if name.startswith(prefix)}


def text_weights(checkpoint: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The text encoder's weights by transformers' names; some files leave text_model out."""
    return {name.removeprefix(TEXT_MODEL): tensor for name, tensor in below(checkpoint, TEXT).items()}


def vae_weights(file: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The VAE's weights in a checkpoint or in a VAE file, by Diffusers names."""
    weights = below(file, VAE) or dict(file)
    names = old_attention_names() if any("down_blocks" in name for name in weights) else vae_sizes(shapes_of(weights)).names()
    return {renamed(name, names): tensor for name, tensor in weights.items()}


def old_attention_names() -> Names:
    """Today's Diffusers modules by those of old Diffusers VAEs."""
    return {f"{side}.mid_block.attentions.0.{old}": f"{side}.mid_block.attentions.0.{new}"
            for side in ("encoder", "decoder") for old, new in OLD_VAE_ATTENTION.items()}


def unet_weights(checkpoint: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The denoiser's weights by Diffusers names."""
    weights = below(checkpoint, UNET)
    names = unet_sizes(shapes_of(weights)).names()
    return {renamed(name, names): tensor for name, tensor in weights.items()}


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Shapes by name."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def original_weights(unet: Mapping[str, Tensor], vae: Mapping[str, Tensor], text: Mapping[str, Tensor], sizes: tuple[UNetSizes, VAESizes]) -> dict[str, Tensor]:
    """A checkpoint in the original layout, from weights by Diffusers and transformers names."""
    unet_names, vae_names = (reversed_names(part.names()) for part in sizes)
    checkpoint = {UNET + renamed(name, unet_names): tensor for name, tensor in unet.items()}
    for name, tensor in vae.items():
        original = renamed(name, vae_names)
        # The original VAE's attention is made of 1x1 convolutions.
        is_convolution = ".attn_1." in original and tensor.dim() == 2
        checkpoint[VAE + original] = tensor[:, :, None, None] if is_convolution else tensor
    checkpoint.update({f"{TEXT}{TEXT_MODEL}{name}": tensor for name, tensor in text.items()})
    return checkpoint


def fitted(weights: Mapping[str, Tensor], wanted: Shapes, part: str, source: Any) -> dict[str, Tensor]:
    """The weights that a part of the model wants, in its shapes; others are left out. Raises Faults where some are missing or of another shape."""
    missing = [name for name in wanted if name not in weights]
    if missing:
        raise Faults(f"{source} lacks {len(missing)} of {len(wanted)} weights of the {part}, among them {', '.join(missing[:3])}. It is not a whole Stable Diffusion 1.x model.")
    found, wrong = {}, []
    for name, shape in wanted.items():
        tensor = weights[name]
        # 1x1 convolutions and linear layers hold the same values.
        if tensor.dim() != len(shape) and tensor.numel() == math.prod(shape):
            tensor = tensor.reshape(shape)
        if tuple(tensor.shape) != tuple(shape):
            wrong.append(f"{name} is {list(tensor.shape)} instead of {list(shape)}")
        found[name] = tensor
    if wrong:
        raise Faults(f"{source}: the {part} has weights of another shape than a Stable Diffusion 1.x model of its sizes: {'; '.join(wrong[:3])}.")
    return found
