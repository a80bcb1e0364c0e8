"""Names and shapes of a Stable Diffusion 1 checkpoint of any size, and random weights for it.

This states the layout of the original (LDM) files on its own, so that small models can be made without loading a large library.
"""

from dataclasses import dataclass

import numpy as np

from backend.randomness import seed_for

UNET = "model.diffusion_model."
VAE = "first_stage_model."
TEXT = "cond_stage_model.transformer.text_model."
EMBEDDING_STD = 0.5  # well apart, so that different words give different pictures
LATENT_STD = 5.0  # so that latents times 0.18215 have about unit variance
LATENT_LOG_VARIANCE = -8.0


@dataclass(frozen=True)
class SDSizes:
    """The numbers that Stable Diffusion 1 checkpoints may differ in."""

    unet_channels: tuple[int, ...] = (320, 640, 1280, 1280)  # by level, finest first
    unet_attention: tuple[bool, ...] = (True, True, True, False)  # which levels look at the text
    unet_layers: int = 2  # per level
    vae_channels: tuple[int, ...] = (128, 256, 512, 512)
    vae_layers: int = 2
    text_width: int = 768
    text_layers: int = 12
    vocabulary: int = 49408
    positions: int = 77
    latent_channels: int = 4


class Layout(dict):
    """Shapes by name."""

    def layer(self, name: str, *shape: int, bias: bool = True) -> None:
        """A linear layer or convolution: out, in, and the kernel's sides."""
        self[f"{name}.weight"] = shape
        if bias:
            self[f"{name}.bias"] = shape[:1]

    def norm(self, name: str, channels: int) -> None:
        """A group or layer norm."""
        self.layer(name, channels)


def sd_layout(sizes: SDSizes) -> dict[str, tuple[int, ...]]:
    """Shapes of all weights by their names in an original checkpoint."""
    layout = Layout()
    add_unet(layout, sizes)
    add_vae(layout, sizes)
    add_text_encoder(layout, sizes)
    return dict(layout)


def random_checkpoint(sizes: SDSizes, seed: int) -> dict[str, np.ndarray]:
    """Random float32 weights by name, such that activations neither vanish nor explode."""
    weights = {name: random_weight(name, shape, seed) for name, shape in sd_layout(sizes).items()}
    scale_latents(weights, sizes.latent_channels)
    return weights


def random_weight(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """One weight, drawn by its name: the same whatever else is in the file."""
    noise = np.random.Generator(np.random.PCG64(seed_for(seed, "weight", name))).standard_normal(shape, dtype=np.float32)
    if "_embedding.weight" in name:
        return noise * np.float32(EMBEDDING_STD)
    if name.endswith(".bias"):
        return noise * np.float32(0.05)
    if len(shape) == 1:  # the weight of a norm
        return 1 + noise * np.float32(0.1)
    return noise / np.float32(np.sqrt(np.prod(shape[1:])))


def scale_latents(weights: dict[str, np.ndarray], channels: int) -> None:
    """Give latents the spread that the family's scale factor expects, and little variance of their own."""
    weight, bias = weights[f"{VAE}quant_conv.weight"], weights[f"{VAE}quant_conv.bias"]
    weight[:channels] *= LATENT_STD
    weight[channels:] *= 0.1
    bias[channels:] += LATENT_LOG_VARIANCE
    # The decoder undoes the scale, so that it sees unit variance.
    weights[f"{VAE}post_quant_conv.weight"] /= LATENT_STD


def add_unet(layout: Layout, sizes: SDSizes) -> None:
    """The denoiser."""
    channels, layers = sizes.unet_channels, sizes.unet_layers
    first, last = channels[0], len(channels) - 1
    layout.layer(f"{UNET}time_embed.0", 4 * first, first)
    layout.layer(f"{UNET}time_embed.2", 4 * first, 4 * first)
    layout.layer(f"{UNET}input_blocks.0.0", first, sizes.latent_channels, 3, 3)
    skips = [first]
    for level, width in enumerate(channels):
        for _ in range(layers):
            add_unet_block(layout, f"{UNET}input_blocks.{len(skips)}", (skips[-1], width), sizes, sizes.unet_attention[level])
            skips.append(width)
        if level < last:
            layout.layer(f"{UNET}input_blocks.{len(skips)}.0.op", width, width, 3, 3)
            skips.append(width)
    add_resnet(layout, f"{UNET}middle_block.0", channels[-1], channels[-1], 4 * first)
    add_transformer(layout, f"{UNET}middle_block.1", channels[-1], sizes.text_width)
    add_resnet(layout, f"{UNET}middle_block.2", channels[-1], channels[-1], 4 * first)
    add_unet_outputs(layout, sizes, skips)
    layout.norm(f"{UNET}out.0", first)
    layout.layer(f"{UNET}out.2", sizes.latent_channels, first, 3, 3)


def add_unet_outputs(layout: Layout, sizes: SDSizes, skips: list[int]) -> None:
    """The way up. skips: channels of what each block of the way down hands over; used up here."""
    width, number = sizes.unet_channels[-1], 0
    for level in reversed(range(len(sizes.unet_channels))):
        attention = sizes.unet_attention[level]
        for layer in range(sizes.unet_layers + 1):
            name = f"{UNET}output_blocks.{number}"
            add_unet_block(layout, name, (width + skips.pop(), sizes.unet_channels[level]), sizes, attention)
            width, number = sizes.unet_channels[level], number + 1
        if level > 0:
            layout.layer(f"{name}.{2 if attention else 1}.conv", width, width, 3, 3)


def add_unet_block(layout: Layout, name: str, widths: tuple[int, int], sizes: SDSizes, attention: bool) -> None:
    """A residual block, and a transformer behind it where the level has one. widths: in, out."""
    add_resnet(layout, f"{name}.0", *widths, 4 * sizes.unet_channels[0])
    if attention:
        add_transformer(layout, f"{name}.1", widths[1], sizes.text_width)


def add_resnet(layout: Layout, name: str, width_in: int, width: int, time_width: int) -> None:
    """A residual block that is told the time."""
    layout.norm(f"{name}.in_layers.0", width_in)
    layout.layer(f"{name}.in_layers.2", width, width_in, 3, 3)
    layout.layer(f"{name}.emb_layers.1", width, time_width)
    layout.norm(f"{name}.out_layers.0", width)
    layout.layer(f"{name}.out_layers.3", width, width, 3, 3)
    if width_in != width:
        layout.layer(f"{name}.skip_connection", width, width_in, 1, 1)


def add_transformer(layout: Layout, name: str, width: int, text_width: int) -> None:
    """Attention within the picture, attention to the text, and a gated feed-forward layer."""
    layout.norm(f"{name}.norm", width)
    layout.layer(f"{name}.proj_in", width, width, 1, 1)
    block = f"{name}.transformer_blocks.0"
    for attention, source in (("attn1", width), ("attn2", text_width)):
        layout.layer(f"{block}.{attention}.to_q", width, width, bias=False)
        layout.layer(f"{block}.{attention}.to_k", width, source, bias=False)
        layout.layer(f"{block}.{attention}.to_v", width, source, bias=False)
        layout.layer(f"{block}.{attention}.to_out.0", width, width)
    layout.layer(f"{block}.ff.net.0.proj", 8 * width, width)
    layout.layer(f"{block}.ff.net.2", width, 4 * width)
    for norm in ("norm1", "norm2", "norm3"):
        layout.norm(f"{block}.{norm}", width)
    layout.layer(f"{name}.proj_out", width, width, 1, 1)


def add_vae(layout: Layout, sizes: SDSizes) -> None:
    """The picture's encoder and decoder."""
    channels, layers, latent = sizes.vae_channels, sizes.vae_layers, sizes.latent_channels
    encoder, decoder, last = f"{VAE}encoder", f"{VAE}decoder", len(channels) - 1
    layout.layer(f"{encoder}.conv_in", channels[0], 3, 3, 3)
    layout.layer(f"{decoder}.conv_in", channels[-1], latent, 3, 3)
    for level, width in enumerate(channels):
        below, above = channels[max(level - 1, 0)], channels[min(level + 1, last)]
        for layer in range(layers):
            add_vae_resnet(layout, f"{encoder}.down.{level}.block.{layer}", width if layer else below, width)
        for layer in range(layers + 1):
            add_vae_resnet(layout, f"{decoder}.up.{level}.block.{layer}", width if layer else above, width)
        if level < last:
            layout.layer(f"{encoder}.down.{level}.downsample.conv", width, width, 3, 3)
        if level > 0:
            layout.layer(f"{decoder}.up.{level}.upsample.conv", width, width, 3, 3)
    add_vae_ends(layout, encoder, (channels[-1], channels[-1], 2 * latent))
    add_vae_ends(layout, decoder, (channels[-1], channels[0], 3))
    layout.layer(f"{VAE}quant_conv", 2 * latent, 2 * latent, 1, 1)
    layout.layer(f"{VAE}post_quant_conv", latent, latent, 1, 1)


def add_vae_ends(layout: Layout, name: str, widths: tuple[int, int, int]) -> None:
    """The middle and the output of an encoder or decoder. widths: middle, before the output, output."""
    middle, before, output = widths
    add_vae_resnet(layout, f"{name}.mid.block_1", middle, middle)
    layout.norm(f"{name}.mid.attn_1.norm", middle)
    for projection in ("q", "k", "v", "proj_out"):
        layout.layer(f"{name}.mid.attn_1.{projection}", middle, middle, 1, 1)
    add_vae_resnet(layout, f"{name}.mid.block_2", middle, middle)
    layout.norm(f"{name}.norm_out", before)
    layout.layer(f"{name}.conv_out", output, before, 3, 3)


def add_vae_resnet(layout: Layout, name: str, width_in: int, width: int) -> None:
    """A residual block of the VAE."""
    layout.norm(f"{name}.norm1", width_in)
    layout.layer(f"{name}.conv1", width, width_in, 3, 3)
    layout.norm(f"{name}.norm2", width)
    layout.layer(f"{name}.conv2", width, width, 3, 3)
    if width_in != width:
        layout.layer(f"{name}.nin_shortcut", width, width_in, 1, 1)


def add_text_encoder(layout: Layout, sizes: SDSizes) -> None:
    """CLIP's text encoder."""
    width = sizes.text_width
    layout[f"{TEXT}embeddings.token_embedding.weight"] = (sizes.vocabulary, width)
    layout[f"{TEXT}embeddings.position_embedding.weight"] = (sizes.positions, width)
    for number in range(sizes.text_layers):
        name = f"{TEXT}encoder.layers.{number}"
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            layout.layer(f"{name}.self_attn.{projection}", width, width)
        layout.layer(f"{name}.mlp.fc1", 4 * width, width)
        layout.layer(f"{name}.mlp.fc2", width, 4 * width)
        layout.norm(f"{name}.layer_norm1", width)
        layout.norm(f"{name}.layer_norm2", width)
    layout.norm(f"{TEXT}final_layer_norm", width)
