"""Stable Diffusion 1.x files: ours against diffusers and transformers, which read the same files in their own way."""

import json
import shutil
import zipfile
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from backend.demo.layout import SDSizes, random_checkpoint, sd_layout
from backend.faults import Faults
from backend.models.sd import checkpoint
from backend.models.sd.model import SDModel
from backend.models.sd.options import SDOptions
from backend.models.tokens import clip_vocabulary, read_merges
from backend.noise.options import NoiseOptions
from tests.tiny import TINY, tiny_sd_checkpoint, tiny_weights

PIXELS = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1)) * 2 - 1
NOISY = torch.randn(2, 4, 8, 12, generator=torch.Generator().manual_seed(2))
TIMES = torch.tensor([7, 900])
CAPTIONS = ["a photo of a cat", "sks dog, running"]


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory):
    return tiny_sd_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny.safetensors")


@pytest.fixture(scope="module")
def descriptions(tmp_path_factory):
    """A Diffusers folder with other weights, whose descriptions were written by hand for the tiny model."""
    folder = tmp_path_factory.mktemp("diffusers")
    unet = UNet2DConditionModel(
        block_out_channels=(16, 32, 32), layers_per_block=1, cross_attention_dim=32, attention_head_dim=8, norm_num_groups=16, sample_size=8,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"))
    vae = AutoencoderKL(
        block_out_channels=(16, 16, 32, 32), layers_per_block=1, latent_channels=4, norm_num_groups=16, sample_size=64, scaling_factor=0.18215,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)
    text = CLIPTextModel(CLIPTextConfig(
        hidden_size=32, intermediate_size=128, num_hidden_layers=3, num_attention_heads=1, vocab_size=49408, max_position_embeddings=77, hidden_act="quick_gelu"))
    merges = read_merges()
    tokenizer = CLIPTokenizer(vocab=clip_vocabulary(merges), merges=merges, model_max_length=77)
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, clip_sample=False)
    pipeline = StableDiffusionPipeline(vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=scheduler, safety_checker=None, feature_extractor=None)
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def theirs(tiny_file, descriptions):
    return StableDiffusionPipeline.from_single_file(tiny_file, config=str(descriptions), local_files_only=True, safety_checker=None)


@pytest.fixture(scope="module")
def theirs_folder(theirs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    theirs.save_pretrained(folder)
    return folder


def load(path, dtype=torch.float32, vae=None, **options):
    return SDModel.load(path, SDOptions(**options), dtype, vae=vae)


@torch.no_grad()
def outputs(model):
    conditioning = model.encode_text(model.tokenize(CAPTIONS))
    found = model.encode_images(PIXELS)
    return {"text": conditioning.tensors["states"], "unet": model.predict(NOISY, TIMES, conditioning), "mean": found.mean,
            "log variance": found.log_variance, "pixels": model.decode(NOISY)}


@torch.no_grad()
def outputs_of_theirs(pipeline):
    ids = pipeline.tokenizer(CAPTIONS, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    states = pipeline.text_encoder(ids)[0]
    found = pipeline.vae.encode(PIXELS).latent_dist
    return {"text": states, "unet": pipeline.unet(NOISY, TIMES, states).sample, "mean": found.mean, "log variance": found.logvar,
            "pixels": pipeline.vae.decode(NOISY / 0.18215).sample}


def assert_same(found, expected, tolerance=1e-5):
    for name, value in expected.items():
        assert torch.allclose(found[name], value, atol=tolerance), f"{name}: {(found[name] - value).abs().max()}"


@pytest.fixture(scope="module")
def expected(theirs):
    return outputs_of_theirs(theirs)


def test_a_checkpoint_gives_the_outputs_that_diffusers_gets_from_it(tiny_file, expected):
    assert all(value.std() > 0.1 for name, value in expected.items() if name != "log variance")
    assert_same(outputs(load(tiny_file)), expected)


def test_a_diffusers_folder_gives_the_same_outputs(theirs_folder, expected):
    assert_same(outputs(load(theirs_folder)), expected)


def test_a_half_precision_diffusers_folder_loads(theirs, expected, tmp_path):
    theirs.save_pretrained(tmp_path, variant="fp16")
    assert_same(outputs(load(tmp_path)), expected)


def test_a_folder_whose_scheduler_predicts_v_trains_v(theirs_folder, tmp_path):
    folder = shutil.copytree(theirs_folder, tmp_path / "v")
    scheduler = folder / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"prediction_type": "v_prediction"}))
    assert load(theirs_folder).noise_process(NoiseOptions()).prediction == "epsilon"
    assert load(folder).noise_process(NoiseOptions()).prediction == "v" and load(folder).facts.base_model_version == "sd_v1_v"


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before torch 1.6"])
def test_a_ckpt_file_gives_the_same_outputs(legacy, expected, tmp_path):
    path = tmp_path / "tiny.ckpt"
    weights = {name: torch.from_numpy(value) for name, value in tiny_weights().items()}
    torch.save({"state_dict": weights, "epoch": 3, "global_step": 100}, path, _use_new_zipfile_serialization=not legacy)
    assert_same(outputs(load(path)), expected)


def test_extra_weights_and_a_missing_text_model_make_no_difference(expected, tmp_path):
    weights = {name.replace("transformer.text_model.", "transformer."): torch.from_numpy(value) for name, value in tiny_weights().items()}
    weights |= {"cond_stage_model.transformer.embeddings.position_ids": torch.arange(77)[None], "betas": torch.ones(1000),
                "model_ema.decay": torch.tensor(0.5), "model_ema.diffusion_modelout2bias": torch.ones(4), "first_stage_model.loss.logvar": torch.ones(1)}
    save_file(weights, tmp_path / "odd.safetensors")
    assert_same(outputs(load(tmp_path / "odd.safetensors")), expected)


def test_the_other_direction_gives_back_every_weight_of_the_file(tiny_file):
    file, model = load_file(tiny_file), load(tiny_file)
    sizes = (checkpoint.unet_sizes(checkpoint.shapes_of(checkpoint.below(file, checkpoint.UNET))), checkpoint.vae_sizes(checkpoint.shapes_of(checkpoint.below(file, checkpoint.VAE))))
    back = checkpoint.original_weights(model.parts["unet"].state_dict(), model.parts["vae"].state_dict(), model.parts["text_encoder"].state_dict(), sizes)
    assert set(back) == set(file)
    assert all(torch.equal(back[name], value) for name, value in file.items())


@pytest.mark.parametrize("sizes", [
    replace(TINY, unet_channels=(16, 32), unet_attention=(True, False), unet_layers=2),
    replace(TINY, unet_channels=(8, 16, 24, 32), unet_attention=(True, True, True, False), unet_layers=2, vae_channels=(8, 12, 16), vae_layers=2),
    replace(TINY, unet_channels=(48, 48), unet_attention=(False, True), text_width=192, text_layers=1),
], ids=["2 levels", "4 levels", "odd"])
def test_any_sizes_are_read_off_the_weights(sizes, tmp_path):
    save_file({name: torch.from_numpy(value) for name, value in random_checkpoint(sizes, 1).items()}, tmp_path / "model.safetensors")
    model = load(tmp_path / "model.safetensors")
    pixels = 2 ** (len(sizes.vae_channels) - 1)
    assert model.latents.pixels == pixels
    latents = model.encode_images(torch.zeros(1, 3, 8 * pixels, 8 * pixels)).mean
    found = model.predict(latents, torch.tensor([5]), model.encode_text(model.tokenize(["x"])))
    assert found.shape == (1, 4, 8, 8) and found.isfinite().all() and model.decode(found).shape == (1, 3, 8 * pixels, 8 * pixels)


def test_the_sizes_of_the_real_model_are_read_off_its_shapes():
    shapes = sd_layout(SDSizes())
    unet = checkpoint.unet_sizes({name.removeprefix(checkpoint.UNET): shape for name, shape in shapes.items()})
    config = unet.config()
    assert config["block_out_channels"] == (320, 640, 1280, 1280) and config["layers_per_block"] == 2 and config["cross_attention_dim"] == 768
    assert config["down_block_types"] == ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",) and config["norm_num_groups"] == 32
    vae = checkpoint.vae_sizes({name.removeprefix(checkpoint.VAE): shape for name, shape in shapes.items()}).config()
    assert vae["block_out_channels"] == (128, 256, 512, 512) and vae["layers_per_block"] == 2 and vae["latent_channels"] == 4
    text = checkpoint.text_sizes({name.removeprefix(checkpoint.TEXT + "text_model."): shape for name, shape in shapes.items()}).config()
    assert (text["hidden_size"], text["num_attention_heads"], text["num_hidden_layers"], text["intermediate_size"]) == (768, 12, 12, 3072)


def other_vae(tmp_path, kind, theirs_folder):
    """The VAE of the tiny model with seed 0, in each form that a person may have."""
    original = {name.removeprefix("first_stage_model."): torch.from_numpy(value) for name, value in tiny_weights().items() if name.startswith("first_stage_model.")}
    diffusers_file = theirs_folder / "vae" / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    path = tmp_path / f"{kind}.safetensors"
    if kind == "checkpoint":
        return tiny_sd_checkpoint(path)
    if kind == "vae.pt":
        torch.save({"state_dict": original}, tmp_path / "vae.pt")
        return tmp_path / "vae.pt"
    if kind == "original":
        save_file(original, path)
    if kind == "diffusers":
        return diffusers_file
    if kind == "old diffusers":
        weights = load_file(diffusers_file)
        save_file({next((name.replace(new, was) for new, was in old.items() if f".attentions.0.{new}." in name), name): value for name, value in weights.items()}, path)
    return {"folder": theirs_folder, "vae folder": theirs_folder / "vae"}.get(kind, path)


@pytest.mark.parametrize("kind", ["checkpoint", "original", "vae.pt", "diffusers", "old diffusers", "folder", "vae folder"])
def test_another_vae_takes_the_place_of_the_models_own(kind, theirs_folder, expected, tmp_path):
    model_file = tiny_sd_checkpoint(tmp_path / "other.safetensors", seed=9)
    without = outputs(load(model_file))
    found = outputs(load(model_file, vae=other_vae(tmp_path, kind, theirs_folder)))
    assert_same(found, {name: expected[name] for name in ("mean", "log variance", "pixels")})
    assert not torch.allclose(without["mean"], expected["mean"], atol=0.1) and torch.equal(without["text"], found["text"])


@pytest.mark.parametrize("skip", [2, 3])
def test_clip_skip_takes_an_earlier_layer_and_norms_it(skip, tiny_file, theirs):
    model = load(tiny_file, clip_skip=skip)
    with torch.no_grad():
        found = model.encode_text(model.tokenize(CAPTIONS)).tensors["states"]
        ids = model.tokenize(CAPTIONS)["text_encoder"]
        # Independently: an encoder that ends that many layers earlier.
        short = CLIPTextModel(CLIPTextConfig(**theirs.text_encoder.config.to_dict() | {"num_hidden_layers": 3 - skip + 1}))
        short.load_state_dict({name: value for name, value in theirs.text_encoder.state_dict().items() if name in short.state_dict()})
        assert torch.allclose(found, short.eval()(ids).last_hidden_state, atol=1e-5)
    assert not torch.allclose(found, load(tiny_file).encode_text(model.tokenize(CAPTIONS)).tensors["states"], atol=0.1)


def test_clip_skip_beyond_the_encoders_layers_is_told(tiny_file):
    with pytest.raises(Faults, match="clip_skip is 4, but the text encoder of .* has 3 layers"):
        load(tiny_file, clip_skip=4)


def test_half_precision_leaves_the_vae_in_full(tiny_file, expected):
    model = load(tiny_file, torch.bfloat16)
    assert {part: next(module.parameters()).dtype for part, module in model.parts.items()} == {"unet": torch.bfloat16, "text_encoder": torch.bfloat16, "vae": torch.float32}
    with torch.autocast("cpu", torch.bfloat16):
        found = outputs(model)
    assert found["unet"].dtype == torch.float32 and found["mean"].dtype == torch.float32
    assert_same(found, {name: expected[name] for name in ("mean", "log variance", "pixels")})
    assert_same(found, {"unet": expected["unet"]}, tolerance=0.1)


def test_a_loaded_model_does_not_depend_on_its_file(expected, tmp_path):
    path = tiny_sd_checkpoint(tmp_path / "tiny.safetensors")
    model = load(path)
    with open(path, "r+b") as file:
        file.seek(100_000)
        file.write(b"\xff" * 8_000_000)
    assert_same(outputs(model), expected)


def test_missing_weights_are_named(tmp_path):
    weights = {name: torch.from_numpy(value) for name, value in tiny_weights().items() if "middle_block.0.in_layers" not in name}
    save_file(weights, tmp_path / "part.safetensors")
    with pytest.raises(Faults, match=r"lacks 4 of \d+ weights of the UNet, among them mid_block.resnets.0.norm1"):
        load(tmp_path / "part.safetensors")


@pytest.mark.parametrize("prefix, part", [("cond_stage_model.", "text encoder"), ("first_stage_model.", "VAE")])
def test_a_checkpoint_without_a_part_is_told(prefix, part, tmp_path):
    weights = {name: torch.from_numpy(value) for name, value in tiny_weights().items() if not name.startswith(prefix)}
    save_file(weights, tmp_path / "part.safetensors")
    with pytest.raises(Faults, match=f"no {part}"):
        load(tmp_path / "part.safetensors")


def test_weights_of_another_shape_are_told(tmp_path):
    weights = {name: torch.from_numpy(value) for name, value in tiny_weights().items()}
    weights["model.diffusion_model.out.0.weight"] = torch.ones(5)
    save_file(weights, tmp_path / "odd.safetensors")
    with pytest.raises(Faults, match=r"conv_norm_out.weight is \[5\] instead of \[16\]"):
        load(tmp_path / "odd.safetensors")


def test_a_vae_of_another_family_is_told(tiny_file, tmp_path):
    vae = random_checkpoint(replace(TINY, latent_channels=16), 0)
    save_file({name: torch.from_numpy(value) for name, value in vae.items() if name.startswith("first_stage_model.")}, tmp_path / "vae.safetensors")
    with pytest.raises(Faults, match="latents of 16 channels, but the UNet reads 4"):
        load(tiny_file, vae=tmp_path / "vae.safetensors")


@pytest.mark.parametrize("part, file, lost", [
    ("unet", "diffusion_pytorch_model.safetensors", "mid_block.resnets.0.conv1.weight"), ("text_encoder", "model.safetensors", "encoder.layers.1.mlp.fc1.weight"),
    ("vae", "diffusion_pytorch_model.safetensors", "decoder.conv_in.weight")])
def test_a_diffusers_folder_that_lacks_a_weight_is_told(part, file, lost, theirs_folder, tmp_path):
    folder = shutil.copytree(theirs_folder, tmp_path / "model")
    weights = load_file(folder / part / file)
    kept = {name: value.clone() for name, value in weights.items() if not name.endswith(lost)}
    assert len(kept) == len(weights) - 1
    save_file(kept, folder / part / file, metadata={"format": "pt"})
    with pytest.raises(Faults, match=f"{part}.*{lost}"):
        load(folder)


def test_a_diffusers_folder_with_a_truncated_file_is_told(theirs_folder, tmp_path):
    folder = shutil.copytree(theirs_folder, tmp_path / "model")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(Faults, match="unet cannot be read as a UNet2DConditionModel"):
        load(folder)


def test_a_checkpoint_without_a_vae_takes_another(tiny_file, expected, tmp_path):
    save_file({name: torch.from_numpy(value) for name, value in tiny_weights().items() if not name.startswith("first_stage_model.")}, tmp_path / "model.safetensors")
    assert_same(outputs(load(tmp_path / "model.safetensors", vae=tiny_file)), expected)


def test_a_diffusers_part_that_would_run_something_is_refused_and_not_run(theirs_folder, tmp_path):
    folder = shutil.copytree(theirs_folder, tmp_path / "evil")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({"x": Harmful(tmp_path / "ran")}, folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(Faults, match="unet cannot be read"):
        load(folder)
    assert not (tmp_path / "ran").exists()


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os

        return os.system, (f"touch {self.path}",)


def test_a_compressed_ckpt_gives_the_same_outputs(expected, tmp_path):
    torch.save({name: torch.from_numpy(value) for name, value in tiny_weights().items()}, tmp_path / "plain.ckpt")
    with zipfile.ZipFile(tmp_path / "plain.ckpt") as plain, zipfile.ZipFile(tmp_path / "packed.ckpt", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    assert_same(outputs(load(tmp_path / "packed.ckpt")), expected)
