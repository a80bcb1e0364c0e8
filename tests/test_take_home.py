"""What a run takes home works elsewhere: diffusers loads the file and draws what our own sampler drew with it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.models.test_checkpoint import descriptions  # noqa: F401 (a fixture: the tiny model's description in Diffusers' words)
from tests.workshop import events, file_facts, train, workbench

PROMPT = "a photo of sks cat on a table"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run whose LoRA visibly changes pictures, with one drawn before the first step and one after the last."""
    folder = tmp_path_factory.mktemp("home")
    options = workbench(folder)
    (folder / "prompts.txt").write_text(f"{PROMPT} --n dark --w 96 --h 64 --s 6 --d 7 --l 3\n")
    options |= {"run_dir": str(folder / "run"), "output_name": "cat", "max_train_steps": 8, "learning_rate": 0.02, "lr_scheduler": "constant", "lr_warmup_steps": 0,
                "sample_prompts": str(folder / "prompts.txt"), "sample_every_n_steps": 8, "sample_at_first": True, "gradient_accumulation_steps": 1}
    assert train(options, folder / "log.txt") == 0, (folder / "log.txt").read_text()
    return folder / "run"


@pytest.fixture(scope="module")
def samples(run) -> list[np.ndarray]:
    """Our pictures: before, and after."""
    paths = [event["path"] for event in events(run) if event["kind"] == "sample"]
    return [np.asarray(Image.open(path)).astype(int) for path in paths]


@pytest.fixture
def pipeline(run, descriptions):  # noqa: F811
    """diffusers' own reading of the model the run began with."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    loaded = StableDiffusionPipeline.from_single_file(run.parent / "tiny.safetensors", config=str(descriptions), local_files_only=True, safety_checker=None)
    loaded.scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def drawn(pipeline) -> np.ndarray:
    picture = pipeline(PROMPT, negative_prompt="dark", width=96, height=64, num_inference_steps=6, guidance_scale=3.0,
                       generator=torch.Generator().manual_seed(7)).images[0]
    return np.asarray(picture).astype(int)


def test_diffusers_draws_the_base_model_as_we_do(pipeline, samples):
    assert abs(drawn(pipeline) - samples[0]).max() <= 1


def test_diffusers_draws_the_lora_as_we_do(pipeline, run, samples):
    pipeline.load_lora_weights(run / "cat.safetensors")
    assert abs(samples[1] - samples[0]).max() > 20, "the LoRA changes nothing that could be compared"
    assert abs(drawn(pipeline) - samples[1]).max() <= 1


def test_merging_by_hand_draws_the_same(pipeline, run, samples):
    """W + up @ down * alpha / rank, layer by layer, with the names read as the format says."""
    weights = load_file(run / "cat.safetensors")
    layers = {"lora_unet_" + name.replace(".", "_"): module for name, module in pipeline.unet.named_modules()}
    layers |= {"lora_te_text_model_" + name.removeprefix("text_model.").replace(".", "_"): module for name, module in pipeline.text_encoder.named_modules()}
    for name in sorted({key.split(".")[0] for key in weights}):
        down, up, alpha = (weights[f"{name}.{part}"] for part in ("lora_down.weight", "lora_up.weight", "alpha"))
        delta = (up.flatten(1) @ down.flatten(1)) * alpha / len(down)
        layer = layers[name]
        layer.weight.data += delta.view_as(layer.weight)
    assert abs(drawn(pipeline) - samples[1]).max() <= 1


def test_the_file_says_what_it_is(run):
    facts = file_facts(run / "cat.safetensors")
    assert facts["ss_network_module"] == "networks.lora" and facts["ss_network_dim"] == "4" and facts["ss_network_alpha"] == "2.0"
    assert facts["ss_base_model_version"] == "sd_v1" and facts["ss_steps"] == "8"
    assert facts["modelspec.architecture"] == "stable-diffusion-v1/lora" and facts["modelspec.title"] == "cat"
    assert len(facts["sshs_model_hash"]) == 64 and len(facts["ss_new_sd_model_hash"]) == 64
    assert str(run.parent) not in str(facts), "a path of this machine went into the file"
