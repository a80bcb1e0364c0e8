"""Other families in their real sizes, held against the interface that Stable Diffusion 1.x was built to.

They are made on torch's meta device: shapes only, no memory. Nothing here is trained; it shows that what is handed between loop, methods and family is enough for them.
"""

import pytest
import torch
from diffusers import FluxTransformer2DModel, SD3Transformer2DModel, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from backend.models.model import Conditioning, LatentShape
from backend.models.sd.checkpoint import UNetSizes, renamed, reversed_names
from backend.models.sd.model import text_targets, unet_targets
from backend.models.tokens import tokenize_clip
from backend.noise.process import NoiseProcess

META = torch.device("meta")


def meta(*shape, dtype=torch.float32):
    return torch.empty(*shape, dtype=dtype, device=META)


@pytest.fixture(scope="module")
def sdxl_unet():
    with META:
        return UNet2DConditionModel(
            block_out_channels=(320, 640, 1280), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), transformer_layers_per_block=(1, 2, 10), attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048, use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816, sample_size=128)


@pytest.fixture(scope="module")
def sd2_unet():
    with META:
        return UNet2DConditionModel(
            block_out_channels=(320, 640, 1280, 1280), attention_head_dim=(5, 10, 20, 20), cross_attention_dim=1024, use_linear_projection=True, sample_size=96)


class Flow(NoiseProcess):
    """Rectified flow (Liu et al. 2022), as SD3 and Flux use it: enough of it to see that it is a NoiseProcess."""

    def draw_times(self, seeds):
        return torch.tensor([(seed % 1000 + 0.5) / 1000 for seed in seeds])

    def draw_noise(self, x, seeds):
        return torch.stack([torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds])

    def mix(self, x, noise, t):
        return (1 - t.view(-1, 1, 1, 1)) * x + t.view(-1, 1, 1, 1) * noise

    def target(self, x, noise, t):
        return noise - x

    def snr(self, t):
        return None

    def weights(self, t):
        return torch.ones(len(t))


def test_the_sdxl_unet_has_722_layers_in_attention_and_788_in_all(sdxl_unet):
    targets = unet_targets(sdxl_unet)
    assert sum(target.in_attention for target in targets) == 722 and len(targets) == 788
    assert sum(isinstance(target.module, nn.Conv2d) and target.module.kernel_size == (3, 3) for target in targets) == 38


def test_the_table_of_names_gives_sdxl_layers_their_names_on_disk():
    """SDXL networks use the original block names, which the same table gives."""
    names = reversed_names(UNetSizes(channels=(320, 640, 1280), attention=(False, True, True), layers=2, text_width=2048, channels_in=4, channels_out=4).names())
    expected = {
        "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q": "input_blocks.4.1.transformer_blocks.0.attn1.to_q",
        "down_blocks.2.attentions.1.proj_in": "input_blocks.8.1.proj_in", "mid_block.attentions.0.transformer_blocks.9.ff.net.2": "middle_block.1.transformer_blocks.9.ff.net.2",
        "up_blocks.0.attentions.0.proj_out": "output_blocks.0.1.proj_out", "up_blocks.0.upsamplers.0.conv": "output_blocks.2.2.conv",
        "up_blocks.2.resnets.2.conv1": "output_blocks.8.0.in_layers.2", "down_blocks.0.downsamplers.0.conv": "input_blocks.3.0.op",
        "down_blocks.0.resnets.1.time_emb_proj": "input_blocks.2.0.emb_layers.1", "up_blocks.1.resnets.0.conv_shortcut": "output_blocks.3.0.skip_connection"}
    assert {ours: renamed(f"{ours}.weight", names).removesuffix(".weight") for ours in expected} == expected


def test_an_sdxl_unet_is_told_all_it_needs_by_a_conditioning_with_sizes(sdxl_unet):
    conditioning = Conditioning({"states": meta(3, 77, 768 + 1280), "pooled": meta(3, 1280)}).with_sizes(meta(3, 6))
    part = Conditioning.concatenate([conditioning[2:3], conditioning[0:1]]).to(torch.float32)
    extra = {"text_embeds": part.tensors["pooled"], "time_ids": part.tensors["sizes"]}
    found = sdxl_unet(meta(2, 4, 128, 96), meta(2, dtype=torch.int64), encoder_hidden_states=part.tensors["states"], added_cond_kwargs=extra).sample
    assert found.shape == (2, 4, 128, 96)


def test_sdxls_text_encoders_give_such_a_conditioning():
    with META:
        first = CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12))
        second = CLIPTextModelWithProjection(CLIPTextConfig(
            hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20, projection_dim=1280, hidden_act="gelu"))
        ids = torch.from_numpy(tokenize_clip(["a cat", ""])).to(META)
        states = torch.cat([first(ids, output_hidden_states=True).hidden_states[11], second(ids, output_hidden_states=True).hidden_states[-2]], dim=-1)
        assert states.shape == (2, 77, 2048) and second(ids).text_embeds.shape == (2, 1280)
    assert len(text_targets(first)) == 72 and len(text_targets(second)) == 192


def test_sd2_has_192_layers_in_attention_all_linear_and_138_in_its_text_encoder(sd2_unet):
    targets = unet_targets(sd2_unet)
    inside = [target for target in targets if target.in_attention]
    assert len(inside) == 192 and len(targets) == 278 and all(isinstance(target.module, nn.Linear) for target in inside)
    with META:
        encoder = CLIPTextModel(CLIPTextConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16, hidden_act="gelu"))
    assert len(text_targets(encoder)) == 138


def test_sd2_and_sdxls_second_encoder_pad_with_another_token():
    assert tokenize_clip(["cat"], pad_id=0)[0, 2:].tolist() == [49407] + [0] * 74


def test_flow_matching_is_a_noise_process():
    x, seeds = torch.randn(2, 16, 4, 4, generator=torch.Generator().manual_seed(0)), [3, 801]
    process = Flow()
    t, noise = process.draw_times(seeds), process.draw_noise(x, seeds)
    # Following the target from the noisy latents to time 0 gives the clean ones.
    assert torch.allclose(process.mix(x, noise, t) - t.view(-1, 1, 1, 1) * process.target(x, noise, t), x, atol=1e-5)
    assert process.snr(t) is None


@pytest.mark.parametrize("scale, shift", [(1.5305, 0.0609), (0.3611, 0.1159)], ids=["sd3", "flux"])
def test_latents_of_16_channels_have_a_scale_and_a_shift(scale, shift):
    shape = LatentShape(channels=16, pixels=8, scale=scale, shift=shift)
    raw = torch.linspace(-3, 3, 5)
    assert torch.allclose(shape.normalise(raw), torch.tensor([(float(value) - shift) * scale for value in raw]))
    assert torch.allclose(shape.denormalise(shape.normalise(raw)), raw, atol=1e-6)


def test_an_sd3_transformer_is_told_all_it_needs_by_a_conditioning():
    with META:
        transformer = SD3Transformer2DModel(
            sample_size=128, patch_size=2, in_channels=16, num_layers=24, attention_head_dim=64, num_attention_heads=24, joint_attention_dim=4096,
            caption_projection_dim=1536, pooled_projection_dim=2048, out_channels=16, pos_embed_max_size=192)
    conditioning = Conditioning({"states": meta(3, 77 + 256, 4096), "pooled": meta(3, 768 + 1280)})[1:3]
    found = transformer(meta(2, 16, 64, 96), encoder_hidden_states=conditioning.tensors["states"], pooled_projections=conditioning.tensors["pooled"], timestep=meta(2)).sample
    assert found.shape == (2, 16, 64, 96)


def packed(latents):
    """[B, 16, h, w] to [B, h/2 * w/2, 64]: Flux sees patches of 2 x 2."""
    batch, channels, height, width = latents.shape
    return latents.view(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(batch, height * width // 4, channels * 4)


def unpacked(patches, height, width):
    """The way back."""
    return patches.view(len(patches), height // 2, width // 2, 16, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(len(patches), 16, height, width)


def test_packing_for_flux_stays_within_the_family():
    latents = torch.randn(2, 16, 6, 8)
    assert torch.equal(unpacked(packed(latents), 6, 8), latents)
    assert packed(latents)[0, 1, :4].tolist() == latents[0, 0, 0:2, 2:4].flatten().tolist()


@pytest.fixture(scope="module")
def flux():
    with META:
        return FluxTransformer2DModel(
            in_channels=64, num_layers=19, num_single_layers=38, attention_head_dim=128, num_attention_heads=24, joint_attention_dim=4096,
            pooled_projection_dim=768, guidance_embeds=True)


def test_a_flux_transformer_is_told_all_it_needs_by_a_conditioning(flux):
    conditioning = Conditioning({"states": meta(3, 512, 4096), "pooled": meta(3, 768), "guidance": meta(3)})[0:2]
    noisy, t = meta(2, 16, 32, 48), meta(2)
    found = flux(
        packed(noisy), timestep=t, guidance=conditioning.tensors["guidance"], pooled_projections=conditioning.tensors["pooled"],
        encoder_hidden_states=conditioning.tensors["states"], txt_ids=meta(512, 3), img_ids=meta(16 * 24, 3)).sample
    assert unpacked(found, 32, 48).shape == noisy.shape


def test_flux_layers_in_diffusers_are_more_than_those_that_have_a_name_on_disk(flux):
    """Files name the original's fused layers, 304 of them; diffusers splits queries, keys and values (and their neighbour in single blocks).

    So a network for Flux needs a model in the original layout: one NetworkTarget is one layer with one name.
    """
    split = [module for block in (flux.transformer_blocks, flux.single_transformer_blocks) for module in block.modules() if isinstance(module, nn.Linear)]
    fused_away = 2 * 2 * 19 + 3 * 38  # q, k, v in both streams of 19 double blocks; q, k, v and the feed-forward in 38 single ones
    assert len(split) == 304 + fused_away
