"""Draw a sample picture with the model as it is now, leaving the training as it was."""

import inspect
import logging
from contextlib import contextmanager
from typing import Iterator

import torch
from PIL import Image
from torch import Tensor

from backend.models.model import Conditioning, DiffusionModel
from backend.sampling.prompts import Prompt
from backend.sampling.samplers import make_scheduler

log = logging.getLogger("darkroom")


@torch.no_grad()
def draw(model: DiffusionModel, prompt: Prompt, sampler: str, seed: int, device: torch.device | str) -> Image.Image:
    """The prompt's picture. The prompt's own sampler and seed win over those given here.

    All chance comes from one generator on the CPU: the same picture's noise on any device, and no generator of torch, numpy or
    Python is touched. Modes and places of the model's parts are put back. The caller chooses the autocast.
    """
    generator = torch.Generator("cpu").manual_seed(seed if prompt.seed is None else prompt.seed)
    with at_rest(model, device):
        latents = denoise(model, prompt, make_scheduler(prompt.sampler or sampler, model.facts.prediction), generator, device)
        return as_picture(model.decode(latents))


def denoise(model: DiffusionModel, prompt: Prompt, scheduler, generator: torch.Generator, device: torch.device | str) -> Tensor:
    """Normalised latents [1, C, h, w], from noise, with classifier-free guidance (Ho & Salimans 2022) where the scale is above 1."""
    conditioning = encode(model, prompt, device)
    shape = (1, model.latents.channels, prompt.height // model.latents.pixels, prompt.width // model.latents.pixels)
    scheduler.set_timesteps(prompt.steps, device=device)
    latents = torch.randn(shape, generator=generator).to(device) * scheduler.init_noise_sigma
    chance = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
    for t in scheduler.timesteps:
        noisy = scheduler.scale_model_input(latents, t)
        guess = guided(model, noisy, t, conditioning, prompt.scale)
        latents = scheduler.step(guess, t, latents, **chance).prev_sample
    return latents


def encode(model: DiffusionModel, prompt: Prompt, device: torch.device | str) -> Conditioning:
    """What the denoiser is told: the negative prompt and the prompt, or the prompt alone where nothing is guided."""
    captions = [prompt.negative, prompt.text] if prompt.scale > 1 else [prompt.text]
    tokens = {name: ids.to(device) for name, ids in model.tokenize(captions).items()}
    sizes = torch.tensor([[prompt.height, prompt.width, 0, 0, prompt.height, prompt.width]], device=device)
    return model.encode_text(tokens).with_sizes(sizes.repeat(len(captions), 1))


def guided(model: DiffusionModel, noisy: Tensor, t: Tensor, conditioning: Conditioning, scale: float) -> Tensor:
    """The denoiser's word on noisy [1, C, h, w], pushed away from the negative prompt; float32."""
    both = len(conditioning)
    said = model.predict(noisy.repeat(both, 1, 1, 1), t.to(noisy.device).repeat(both), conditioning).float()
    if both == 1:
        return said
    negative, positive = said.chunk(2)
    return negative + scale * (positive - negative)


def as_picture(pixels: Tensor) -> Image.Image:
    """Pixels [1, 3, H, W] in about -1..1 as an 8-bit picture."""
    if not torch.isfinite(pixels).all():
        log.warning("The sample holds numbers that are not finite, and those are drawn black: the model may be broken, or mixed_precision too coarse.")
    values = torch.nan_to_num(pixels[0].float(), nan=-1.0, posinf=-1.0, neginf=-1.0)
    values = ((values / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(values.permute(1, 2, 0).cpu().numpy())


@contextmanager
def at_rest(model: DiffusionModel, device: torch.device | str) -> Iterator[None]:
    """Every part on the device and in evaluation mode; afterwards where and as it was, each module by itself."""
    modes = [(module, module.training) for part in model.parts.values() for module in part.modules()]
    places = {name: next(part.parameters()).device for name, part in model.parts.items()}
    try:
        model.move(device)
        for part in model.parts.values():
            part.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training
        for name, place in places.items():
            model.move(place, [name])
