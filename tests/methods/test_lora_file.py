"""A saved LoRA means to diffusers what it means here: the hooked model, diffusers' loader and a merge by hand agree."""

import copy

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from safetensors.torch import load_file

from backend.checkpoints.weights import save_weights
from backend.methods.network.method import NetworkMethod
from backend.methods.network.options import NetworkOptions
from backend.models.sd.model import SDModel
from backend.models.sd.options import SDOptions
from tests.methods.toy import fill
from tests.tiny import tiny_sd_checkpoint

RANGE = 1e-3  # of the outputs' range


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny_sd_checkpoint(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture
def model(checkpoint):
    return SDModel.load(checkpoint, SDOptions(), torch.float32)


def outputs(unet, text_encoder, ids):
    """What a text encoder and a UNet say of one fixed input."""
    generator = torch.Generator().manual_seed(3)
    noisy = torch.randn(2, 4, 8, 16, generator=generator)
    with torch.no_grad():
        states = text_encoder(ids).last_hidden_state
        return states, unet(noisy, torch.tensor([10, 700]), encoder_hidden_states=states).sample


def assert_near(found, expected):
    """Every value is near, beside the range of all."""
    for one, other in zip(found, expected):
        assert (one - other).abs().max() <= RANGE * (other.max() - other.min())


def merged(model, path):
    """Copies of the UNet and the text encoder with the file's product added to each weight."""
    weights, layers = load_file(path), {target.name: target for target in model.network_targets()}
    parts = {name: copy.deepcopy(model.parts[name]) for name in ("unet", "text_encoder")}
    originals = {id(module): (part, path) for part in parts for path, module in model.parts[part].named_modules()}
    for name, target in layers.items():
        if f"{name}.alpha" not in weights:
            continue
        down, up, alpha = (weights[f"{name}.{kind}"] for kind in ("lora_down.weight", "lora_up.weight", "alpha"))
        part, place = originals[id(target.module)]
        layer = parts[part].get_submodule(place)
        change = torch.einsum("or,ri->oi", up.flatten(1), down.flatten(1)) * alpha / down.shape[0]
        layer.weight.data += change.view_as(layer.weight)
        layer._forward_hooks.clear()
    return parts


@pytest.mark.parametrize("arguments", [[], ["conv_dim=3", "conv_alpha=2"]], ids=["attention", "with convolutions"])
def test_a_lora_file_does_in_diffusers_what_it_does_here(model, tmp_path, arguments):
    plain = {name: copy.deepcopy(model.parts[name]) for name in ("unet", "text_encoder", "vae")}
    ids = model.tokenize(["a photo of a cat", "an emblem, red"])["text_encoder"]
    base = outputs(plain["unet"], plain["text_encoder"], ids)
    method = NetworkMethod(NetworkOptions(network_dim=4, network_alpha=2.0, network_args=arguments), 1e-4, seed=0)
    method.prepare(model)
    fill(method, size=0.3)
    hooked = outputs(model.parts["unet"], model.parts["text_encoder"], ids)
    path = tmp_path / "lora.safetensors"
    save_weights(path, method.weights(model), method.metadata())
    with method.disabled(model):
        assert all(torch.equal(*pair) for pair in zip(outputs(model.parts["unet"], model.parts["text_encoder"], ids), base))

    by_hand = merged(model, path)
    assert_near(hooked, outputs(by_hand["unet"], by_hand["text_encoder"], ids))

    pipeline = StableDiffusionPipeline(
        vae=plain["vae"], text_encoder=plain["text_encoder"], tokenizer=None, unet=plain["unet"], scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipeline.load_lora_weights(path)
    assert_near(hooked, outputs(pipeline.unet, pipeline.text_encoder, ids))

    for one, other in zip(hooked, base):
        assert (one - other).abs().max() > 0.05 * (other.max() - other.min()), "the LoRA must change something"


def test_gradients_reach_every_layer_with_and_without_gradient_checkpointing(model):
    method = NetworkMethod(NetworkOptions(network_args=["conv_dim=2"], network_dropout=0.2), 1e-4, seed=0)
    method.prepare(model)
    fill(method, size=0.1)
    tokens = model.tokenize(["a cat"])
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    found = []
    for checkpointing in (False, True):
        model.save_memory(gradient_checkpointing=checkpointing, sdpa=True)
        method.network.zero_grad()
        torch.manual_seed(2)
        model.predict(noisy, torch.tensor([500]), model.encode_text(tokens)).square().mean().backward()
        found.append({name: parameter.grad.clone() for name, parameter in method.network.named_parameters()})
    assert all(gradient.any() for gradient in found[0].values())
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, msg=lambda words: f"{name}: {words}")


def test_a_bf16_model_trains_a_float32_network(checkpoint):
    model = SDModel.load(checkpoint, SDOptions(), torch.bfloat16)
    method = NetworkMethod(NetworkOptions(), 1e-4, seed=0)
    groups = method.prepare(model)
    tokens = model.tokenize(["a cat"])
    with torch.autocast("cpu", torch.bfloat16):
        model.predict(torch.randn(1, 4, 8, 8), torch.tensor([500]), model.encode_text(tokens)).float().square().mean().backward()
    parameters = [parameter for group in groups for parameter in group.parameters]
    assert all(parameter.dtype == parameter.grad.dtype == torch.float32 for parameter in parameters)
    assert all(torch.isfinite(parameter.grad).all() for parameter in parameters)
