"""A model of four layers and one text layer, with every kind of layer that a network may adapt."""

import torch
from torch import nn

from backend.models.model import DiffusionModel, NetworkTarget


class ToyModel(DiffusionModel):
    """Linear and 1x1 convolution inside attention; 3x3 convolution and linear outside; one linear layer that reads text."""

    denoiser = "unet"
    text_encoders = ("text_encoder",)

    def __init__(self, dtype=torch.float32):
        torch.manual_seed(0)
        unet = nn.ModuleDict({"to_q": nn.Linear(6, 5), "proj_in": nn.Conv2d(3, 4, 1), "conv": nn.Conv2d(3, 4, 3, stride=2, padding=1), "time": nn.Linear(6, 4)})
        self.parts = {"unet": unet.to(dtype), "text_encoder": nn.ModuleDict({"q_proj": nn.Linear(4, 4)}).to(dtype)}

    def network_targets(self):
        unet, text = self.parts["unet"], self.parts["text_encoder"]
        return [
            NetworkTarget("lora_te_q_proj", "text_encoder", text["q_proj"], True),
            NetworkTarget("lora_unet_to_q", "unet", unet["to_q"], True),
            NetworkTarget("lora_unet_proj_in", "unet", unet["proj_in"], True),
            NetworkTarget("lora_unet_conv", "unet", unet["conv"], False),
            NetworkTarget("lora_unet_time", "unet", unet["time"], False),
        ]

    def unused(self, *arguments, **named):
        """These parts of the interface are not needed to put a network beside layers."""
        raise NotImplementedError

    load = tokenize = encode_text = encode_images = decode = predict = noise_process = save_memory = unused


def fill(method, seed=1, size=0.5):
    """Give every factor of a network random values, so that it changes something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in method.network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * size)
