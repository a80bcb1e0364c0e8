"""Samples are what diffusers' own pipeline draws, and drawing leaves no trace."""

import random

import diffusers
import numpy as np
import pytest
import torch

from backend.models.sd.model import SDModel
from backend.models.sd.options import SDOptions
from backend.sampling.options import SamplingOptions
from backend.sampling.preview import draw
from backend.sampling.prompts import SAMPLER_NAMES, Prompt
from backend.sampling.samplers import make_scheduler
from tests.tiny import tiny_sd_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of diffusers against numpy 2
# The scheduler's description that Stable Diffusion 1.5 comes with.
SD15 = {
    "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "trained_betas": None,
    "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "clip_sample": False}
THEIRS = {
    "ddim": diffusers.DDIMScheduler, "pndm": diffusers.PNDMScheduler, "lms": diffusers.LMSDiscreteScheduler, "k_lms": diffusers.LMSDiscreteScheduler,
    "euler": diffusers.EulerDiscreteScheduler, "k_euler": diffusers.EulerDiscreteScheduler,
    "euler_a": diffusers.EulerAncestralDiscreteScheduler, "k_euler_a": diffusers.EulerAncestralDiscreteScheduler,
    "heun": diffusers.HeunDiscreteScheduler, "dpm_2": diffusers.KDPM2DiscreteScheduler, "k_dpm_2": diffusers.KDPM2DiscreteScheduler,
    "dpm_2_a": diffusers.KDPM2AncestralDiscreteScheduler, "k_dpm_2_a": diffusers.KDPM2AncestralDiscreteScheduler,
    "dpmsolver": diffusers.DPMSolverMultistepScheduler, "dpmsolver++": diffusers.DPMSolverMultistepScheduler,
    "dpmsingle": diffusers.DPMSolverSinglestepScheduler}
FURTHER = {"dpmsolver": {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}, "dpmsingle": {"lower_order_final": True}}
PROMPT = Prompt("a photo of a cat", "a blurry dog", 96, 64, steps=7, scale=3.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return SDModel.load(tiny_sd_checkpoint(tmp_path_factory.mktemp("model") / "tiny.safetensors"), SDOptions(), torch.float32)


def pixels(picture):
    return np.asarray(picture).astype(int)


def ours(model, prompt=PROMPT, sampler="ddim", seed=5):
    return pixels(draw(model, prompt, sampler, seed, torch.device("cpu")))


@torch.no_grad()
def theirs(model, prompt, sampler, seed):
    """The same by diffusers' pipeline, which draws its noise itself."""
    encoder = model.parts["text_encoder"]
    positive, negative = (encoder(model.tokenize([text])["text_encoder"])[0] for text in (prompt.text, prompt.negative))
    pipeline = diffusers.StableDiffusionPipeline(
        vae=model.parts["vae"], text_encoder=encoder, tokenizer=None, unet=model.parts["unet"], safety_checker=None, feature_extractor=None,
        requires_safety_checker=False, scheduler=THEIRS[sampler].from_config(SD15, **FURTHER.get(sampler, {})))
    pipeline.set_progress_bar_config(disable=True)
    return pixels(pipeline(
        prompt_embeds=positive, negative_prompt_embeds=negative, width=prompt.width, height=prompt.height, num_inference_steps=prompt.steps,
        guidance_scale=prompt.scale, generator=torch.Generator().manual_seed(seed)).images[0])


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
def test_a_sample_is_the_picture_of_diffusers_own_pipeline(model, sampler):
    mine, wanted = ours(model, sampler=sampler), theirs(model, PROMPT, sampler, 5)
    assert mine.shape == wanted.shape == (64, 96, 3)
    assert wanted.std() > 10  # not one flat colour, nor black or white alone
    assert abs(mine - wanted).max() <= 1


def test_sides_that_do_not_halve_evenly_are_drawn_in_full(model):
    odd = Prompt(PROMPT.text, PROMPT.negative, 104, 72, steps=3, scale=2.0)
    mine = ours(model, odd)
    assert mine.shape == (72, 104, 3)
    assert abs(mine - theirs(model, odd, "ddim", 5)).max() <= 1


def test_without_guidance_the_negative_prompt_has_no_part(model):
    plain = Prompt(PROMPT.text, PROMPT.negative, 64, 64, steps=4, scale=1.0)
    mine = ours(model, plain)
    assert abs(mine - theirs(model, plain, "ddim", 5)).max() <= 1
    assert (mine == ours(model, Prompt(PROMPT.text, "", 64, 64, steps=4, scale=1.0))).all()
    assert (mine != ours(model, Prompt(PROMPT.text, PROMPT.negative, 64, 64, steps=4, scale=4.0))).any()


def test_the_prompts_own_sampler_and_seed_win(model):
    own = Prompt(PROMPT.text, PROMPT.negative, 96, 64, 5, 7, 3.0, "k_euler_a")
    assert (ours(model, own, "ddim", seed=99) == ours(model, PROMPT, "k_euler_a", seed=5)).all()
    assert (ours(model, PROMPT, "k_euler_a", seed=99) != ours(model, PROMPT, "k_euler_a", seed=5)).any()


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
@pytest.mark.parametrize("steps", [1, 2])
def test_very_few_steps_draw_a_picture_too(model, sampler, steps, caplog):
    ours(model, Prompt("a cat", width=64, height=64, steps=steps, scale=2.0), sampler)
    assert "not finite" not in caplog.text


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
def test_no_generator_but_its_own_is_drawn_from(model, sampler):
    before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    ours(model, Prompt("a cat", width=64, height=64, steps=3), sampler)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
    assert before[2] == random.getstate()


def test_modules_and_gradients_are_left_as_they_were(model):
    unet, encoder = model.parts["unet"], model.parts["text_encoder"]
    unet.train()
    unet.mid_block.eval()
    encoder.eval()
    weight = unet.conv_in.weight.requires_grad_(True)
    before = {name: module.training for part in model.parts.values() for name, module in part.named_modules()}
    ours(model, Prompt("a cat", width=64, height=64, steps=2))
    assert before == {name: module.training for part in model.parts.values() for name, module in part.named_modules()}
    assert weight.requires_grad and weight.grad is None and torch.is_grad_enabled()
    weight.requires_grad_(False)
    model.parts["unet"].eval()


def test_a_model_in_training_mode_draws_the_same(model):
    wanted = ours(model, PROMPT)
    dropouts = [module for module in model.parts["unet"].modules() if isinstance(module, torch.nn.Dropout)]
    before = [module.p for module in dropouts]
    try:
        model.parts["unet"].train()
        for module in dropouts:
            module.p = 0.5
        assert dropouts and (ours(model, PROMPT) == wanted).all()
    finally:
        model.parts["unet"].eval()
        for module, share in zip(dropouts, before):
            module.p = share


def test_a_sample_under_autocast_is_near_the_precise_one(model):
    wanted = ours(model, PROMPT)
    with torch.autocast("cpu", torch.bfloat16):
        mine = ours(model, PROMPT)
    assert 0 < abs(mine - wanted).mean() < 12


def test_a_broken_model_is_told_and_does_not_stop_the_run(model, caplog):
    weight = model.parts["unet"].conv_out.bias
    kept = weight.detach().clone()
    try:
        with torch.no_grad():
            weight.fill_(float("nan"))
        assert (ours(model, Prompt("a cat", width=64, height=64, steps=2)) == 0).all()
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    assert "not finite" in caplog.text


def test_a_v_model_is_sampled_as_one():
    for name in SAMPLER_NAMES:
        assert make_scheduler(name, "v").config.prediction_type == "v_prediction"


def test_every_choice_of_the_option_has_a_scheduler():
    names = SamplingOptions.model_fields["sample_sampler"].annotation.__args__
    assert {type(make_scheduler(name, "epsilon")) for name in names} == set(THEIRS.values())
