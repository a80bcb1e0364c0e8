"""What methods, the loop and sampling ask of a Stable Diffusion model."""

import pickle
from types import SimpleNamespace

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from backend.faults import Faults
from backend.models.model import Conditioning
from backend.models.options import ModelOptions
from backend.models.registry import load_model
from backend.models.sd.checkpoint import unet_sizes
from backend.models.sd.model import SDModel, text_targets, unet_targets
from backend.models.sd.options import SDOptions
from backend.demo.layout import SDSizes, UNET, sd_layout
from tests.tiny import tiny_sd_checkpoint

TIMES = torch.tensor([3, 700])


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory):
    return tiny_sd_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny.safetensors")


@pytest.fixture
def model(tiny_file):
    return SDModel.load(tiny_file, SDOptions(), torch.float32)


@pytest.fixture(scope="module")
def real_unet():
    """The UNet of the real size, without memory."""
    shapes = {name.removeprefix(UNET): shape for name, shape in sd_layout(SDSizes()).items() if name.startswith(UNET)}
    with torch.device("meta"):
        return UNet2DConditionModel(**unet_sizes(shapes).config())


def noisy():
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(6))


def test_the_real_unet_has_192_layers_in_attention_and_278_in_all(real_unet):
    targets = unet_targets(real_unet)
    inside = [target for target in targets if target.in_attention]
    assert len(inside) == 192 and len(targets) == 278
    assert sum(isinstance(target.module, nn.Conv2d) for target in inside) == 32
    assert sum(isinstance(target.module, nn.Conv2d) and target.module.kernel_size == (3, 3) for target in targets) == 50
    assert len({target.name for target in targets}) == 278 and not any("." in target.name for target in targets)


def test_the_real_unets_layers_have_their_names_on_disk(real_unet):
    targets = {target.name: target.in_attention for target in unet_targets(real_unet)}
    for name in ("down_blocks_0_attentions_0_proj_in", "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", "mid_block_attentions_0_transformer_blocks_0_attn2_to_out_0",
                 "up_blocks_3_attentions_2_transformer_blocks_0_ff_net_0_proj", "up_blocks_1_attentions_0_transformer_blocks_0_ff_net_2"):
        assert targets[f"lora_unet_{name}"] is True
    for name in ("down_blocks_0_resnets_0_conv1", "down_blocks_0_resnets_0_time_emb_proj", "down_blocks_1_resnets_0_conv_shortcut", "down_blocks_0_downsamplers_0_conv",
                 "up_blocks_0_upsamplers_0_conv", "mid_block_resnets_1_conv2"):
        assert targets[f"lora_unet_{name}"] is False
    assert not any("conv_in" in name or "conv_out" in name or "time_embedding" in name for name in targets)


def test_the_real_text_encoder_has_72_layers_with_their_names_on_disk():
    with torch.device("meta"):
        targets = text_targets(CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)))
    names = {target.name for target in targets}
    assert len(targets) == len(names) == 72 and all(target.in_attention for target in targets)
    assert names == {f"lora_te_text_model_encoder_layers_{layer}_{rest}" for layer in range(12)
                     for rest in ("self_attn_q_proj", "self_attn_k_proj", "self_attn_v_proj", "self_attn_out_proj", "mlp_fc1", "mlp_fc2")}


def test_text_encoders_come_first_among_the_targets(model):
    parts = [target.part for target in model.network_targets()]
    assert parts == sorted(parts) and set(parts) == {"text_encoder", "unet"}


def test_nothing_is_trained_until_a_method_says_so(model):
    assert not any(parameter.requires_grad for part in model.parts.values() for parameter in part.parameters())


def test_tokenizing_needs_no_model_so_a_loader_process_can_have_it(model):
    tokens = pickle.loads(pickle.dumps(model.tokenize))(["a photo of a cat"])
    assert tokens["text_encoder"].dtype == torch.int64 and tokens["text_encoder"].shape == (1, 77)
    assert len(pickle.dumps(model.tokenize)) < 1000


def gradients(model, gradient_checkpointing, sdpa):
    """Gradients of a loss in the UNet and in the text encoder."""
    model.save_memory(gradient_checkpointing, sdpa)
    weights = [model.parts["unet"].down_blocks[0].attentions[0].transformer_blocks[0].attn2.to_k.weight, model.parts["text_encoder"].encoder.layers[1].mlp.fc1.weight]
    for weight in weights:
        weight.requires_grad_(True)
    conditioning = model.encode_text(model.tokenize(["a cat", "two dogs"]))
    loss = model.predict(noisy(), TIMES, conditioning).square().mean()
    return [loss, *torch.autograd.grad(loss, weights)]


@pytest.mark.parametrize("clip_skip", [None, 2])
@pytest.mark.parametrize("gradient_checkpointing, sdpa", [(True, True), (False, False), (True, False)])
def test_saving_memory_changes_no_gradient(gradient_checkpointing, sdpa, clip_skip, tiny_file):
    model = SDModel.load(tiny_file, SDOptions(clip_skip=clip_skip), torch.float32)
    expected = gradients(model, False, True)
    assert all(value.abs().max() > 1e-6 for value in expected)
    for found, wanted in zip(gradients(model, gradient_checkpointing, sdpa), expected):
        assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-6)


def forward_calls(model, gradient_checkpointing):
    """How often an inner layer of each part is computed in a step: twice with checkpointing."""
    calls = {"unet": 0, "text_encoder": 0}
    inner = {"unet": model.parts["unet"].down_blocks[0].resnets[0].conv1, "text_encoder": model.parts["text_encoder"].encoder.layers[1].mlp.fc1}

    def counted(part):
        return lambda *_: calls.update({part: calls[part] + 1})

    hooks = [module.register_forward_hook(counted(part)) for part, module in inner.items()]
    model.save_memory(gradient_checkpointing, True)
    model.parts["unet"].conv_in.weight.requires_grad_(True)
    model.parts["text_encoder"].embeddings.token_embedding.weight.requires_grad_(True)
    model.predict(noisy(), TIMES, model.encode_text(model.tokenize(["a", "b"]))).mean().backward()
    for hook in hooks:
        hook.remove()
    return calls


def test_gradient_checkpointing_computes_both_parts_twice_and_can_be_turned_off(model):
    assert forward_calls(model, True) == {"unet": 2, "text_encoder": 2}
    assert forward_calls(model, False) == {"unet": 1, "text_encoder": 1}


def test_attention_is_computed_as_asked(model):
    model.save_memory(False, True)
    assert {type(each) for each in model.parts["unet"].attn_processors.values()} == {AttnProcessor2_0} and model.parts["text_encoder"].config._attn_implementation == "sdpa"
    model.save_memory(False, False)
    assert {type(each) for each in model.parts["unet"].attn_processors.values()} == {AttnProcessor} and model.parts["text_encoder"].config._attn_implementation == "eager"


def test_sizes_make_no_difference_to_this_family(model):
    conditioning = model.encode_text(model.tokenize(["a cat", "two dogs"]))
    with torch.no_grad():
        assert torch.equal(model.predict(noisy(), TIMES, conditioning), model.predict(noisy(), TIMES, conditioning.with_sizes(torch.ones(2, 6))))


@torch.no_grad()
def test_conditioning_can_be_cut_and_joined_by_sample(model):
    conditioning = model.encode_text(model.tokenize(["a cat", "two dogs"]))
    back = Conditioning.concatenate([conditioning[1:2], conditioning[0:1]])
    assert len(back) == 2
    whole, swapped = model.predict(noisy(), TIMES, conditioning), model.predict(noisy().flip(0), TIMES.flip(0), back)
    assert torch.allclose(swapped.flip(0), whole, atol=1e-5)
    assert not torch.allclose(model.predict(noisy(), TIMES, back), whole, atol=1e-3)


def test_a_model_is_loaded_by_its_options(tiny_file):
    config = SimpleNamespace(model=ModelOptions(pretrained_model_name_or_path=str(tiny_file)), sd=SDOptions(clip_skip=2))
    model = load_model(config, torch.bfloat16)
    assert isinstance(model, SDModel) and model.parts["unet"].dtype == torch.bfloat16 and model.options.clip_skip == 2


def test_a_model_that_does_not_exist_is_a_fault(tmp_path):
    with pytest.raises(Faults, match="does not exist"):
        load_model(SimpleNamespace(model=ModelOptions(pretrained_model_name_or_path=str(tmp_path / "x.ckpt")), sd=SDOptions()), torch.float32)
