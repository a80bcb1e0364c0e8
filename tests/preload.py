"""Imported by the fork server, so that its children need not load these again."""

import accelerate  # noqa: F401
import torch.utils.data  # noqa: F401
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel  # noqa: F401
from transformers import CLIPTextModel, get_scheduler  # noqa: F401
