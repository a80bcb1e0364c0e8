"""Draws are made on the CPU, and the CPU does not wait for the device that they go to."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from backend.models.model import LatentDistribution
from backend.noise.ddpm import DDPM
from backend.noise.draws import draw_latents
from backend.noise.options import NoiseOptions


class Copies(TorchDispatchMode):
    """Notes, of each copy to the device meta, whether it is waited for."""

    def __init__(self):
        super().__init__()
        self.waited_for = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.ops.aten._to_copy.default and str(kwargs.get("device")) == "meta":
            self.waited_for.append(not kwargs.get("non_blocking", False))
        return function(*args, **kwargs)


def test_noise_and_latents_go_to_the_device_without_waiting():
    there = torch.empty(2, 4, 8, 8, device="meta", dtype=torch.bfloat16)
    with Copies() as copies:
        noise = DDPM(NoiseOptions(noise_offset=0.1)).draw_noise(there, [1, 2])
        latents = draw_latents(LatentDistribution(there, there), [1, 2])
    assert noise.device.type == latents.device.type == "meta" and noise.dtype == latents.dtype == torch.bfloat16
    assert copies.waited_for == [False, False]
