"""What the community's trainer sd-scripts knows and this one does not obey yet: told by name, never ignored."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from backend.data.options import SubsetOptions
from backend.faults import did_you_mean

NAMES_FILE = Path(__file__).with_name("sd_scripts_names.json")

# Choices of built options that sd-scripts has beyond ours.
UNBUILT_CHOICES = {
    "mixed_precision": ("fp16",),
    "optimizer_type": (
        "PagedAdamW", "PagedAdamW8bit", "PagedAdamW32bit", "Lion", "Lion8bit", "PagedLion8bit", "SGDNesterov", "SGDNesterov8bit", "AdaFactor",
        "Adafactor", "DAdaptation", "DAdaptAdamPreprint", "DAdaptAdaGrad", "DAdaptAdam", "DAdaptAdan", "DAdaptAdanIP", "DAdaptLion", "DAdaptSGD",
        "Prodigy", "AdEMAMix8bit", "PagedAdEMAMix8bit", "RAdamScheduleFree", "AdamWScheduleFree", "SGDScheduleFree"),
    "network_module": (
        "networks.dylora", "networks.lora_fa", "networks.loha", "networks.lokr", "networks.oft", "networks.lora_flux", "networks.lora_sd3",
        "networks.oft_flux", "networks.lora_lumina", "networks.lora_anima", "networks.lora_hunyuan_image", "lycoris.kohya"),
    "lr_scheduler": ("inverse_sqrt", "cosine_with_min_lr", "warmup_stable_decay", "piecewise_constant", "adafactor"),
    "save_model_as": ("diffusers", "diffusers_safetensors"),
}

# Where 0 means that the option is off.
OFF_AT_ZERO = frozenset((
    "adaptive_noise_scale", "caption_dropout_every_n_epochs", "caption_tag_dropout_rate", "ddp_timeout", "fused_optimizer_groups", "initial_epoch",
    "initial_step", "ip_noise_gamma", "lr_decay_steps", "min_timestep", "multires_noise_iterations", "noise_offset_random_strength",
    "save_n_epoch_ratio", "scale_weight_norms", "stop_text_encoder_training", "token_warmup_step", "v_pred_like_loss",
    "validate_every_n_epochs", "validate_every_n_steps", "validation_split"))

# Values that ask for what is done anyway.
SAME_AS_OURS = {
    "console_log_level": ("INFO",),
    "dataset_repeats": (1,),
    "dynamo_backend": ("no",),
    "initial_epoch": (1,),
    "log_with": ("tensorboard",),
    "loss_type": ("l2",),
    "max_timestep": (1000,),
    "max_token_length": (75,),
    "no_half_vae": ("true",),
}

# Options that change nothing unless another one is on, which is refused itself where it is not built.
ONLY_WITH = {
    "async_upload": "huggingface_repo_id",
    "base_weights_multiplier": "base_weights",
    "dataset_repeats": "in_json",
    "dynamo_backend": "torch_compile",
    "huber_c": "loss_type",
    "huber_scale": "loss_type",
    "huber_schedule": "loss_type",
    "huggingface_path_in_repo": "huggingface_repo_id",
    "huggingface_repo_type": "huggingface_repo_id",
    "huggingface_repo_visibility": "huggingface_repo_id",
    "huggingface_token": "huggingface_repo_id",
    "lr_scheduler_min_lr_ratio": "lr_scheduler",
    "lr_scheduler_timescale": "lr_scheduler",
    "log_tracker_config": "log_with",
    "log_tracker_name": "log_with",
    "max_validation_steps": "validation_split",
    "multires_noise_discount": "multires_noise_iterations",
    "token_warmup_min": "token_warmup_step",
    "validation_seed": "validation_split",
    "wandb_api_key": "log_with",
    "wandb_run_name": "log_with",
    "zero_stage": "deepspeed",
}

# Keys that the usual GUI writes into its files, and no trainer reads.
GUI_ONLY = frozenset(("epoch", "noise_offset_type"))

# Commands of sd-scripts.
UNBUILT_COMMANDS = frozenset((
    "train_db", "fine_tune", "train_textual_inversion", "train_textual_inversion_XTI", "sdxl_train", "sdxl_train_network", "sdxl_train_textual_inversion"))

# Flags that say where options come from and go to, so they are no options themselves.
DOOR_FLAGS = ("config_file", "output_config", "preset")

# What to write instead, where there is something.
INSTEAD = {
    "use_8bit_adam": "write optimizer_type = AdamW8bit instead",
    "xformers": "remove it: sdpa, which is on, saves as much memory",
    "mem_eff_attn": "remove it: sdpa, which is on, saves as much memory",
    "save_n_epoch_ratio": "write save_every_n_epochs instead",
    "tokenizer_cache_dir": "remove it: the vocabulary is a part of this program",
    "cache_latents_to_disk": "write cache_latents instead, which keeps them in memory",
}


@cache
def sd_scripts_names() -> dict[str, tuple[str, ...]]:
    """Every option of sd-scripts, with the scripts that take it."""
    return {name: tuple(scripts) for name, scripts in json.loads(NAMES_FILE.read_text(encoding="utf-8")).items()}


def is_harmless(name: str, value: Any) -> bool:
    """Whether an option that is not built has a value under which it would change nothing."""
    if name in GUI_ONLY:
        return True
    if name not in sd_scripts_names() or name in DOOR_FLAGS:
        return False
    if is_off(value) or name in ONLY_WITH:
        return True
    return (name in OFF_AT_ZERO and same(value, 0)) or any(same(value, ours) for ours in SAME_AS_OURS.get(name, ()))


def is_idle(name: str, value: Any) -> bool:
    """Whether somebody may have meant something by a value that is harmless: it is on, and nothing here looks at it."""
    return not is_off(value) and name in (GUI_ONLY | ONLY_WITH.keys())


def is_off(value: Any) -> bool:
    """Whether a value says that the option is not used."""
    return value is None or value is False or value in ("", [], ()) or str(value).strip().lower() in ("false", "none")


def same(value: Any, other: Any) -> bool:
    """Whether two values mean the same, one of them perhaps written as text."""
    if isinstance(other, str):
        return str(value).strip().lower() == other.lower()
    try:
        return not isinstance(value, bool) and float(value) == other
    except (TypeError, ValueError):
        return False


def unknown_name(name: str, subject: str, command: str, known: list[str]) -> str:
    """The sentence for a name that no option of this command has. subject: how the sentence names it."""
    if name in DOOR_FLAGS:
        return f"{subject} can only be given on the command line; remove it."
    if name in SubsetOptions.model_fields:
        return f"{subject} can only stand in a dataset file; write it there, and name that file as dataset_config."
    scripts = sd_scripts_names().get(name)
    if scripts is None:
        return f"{subject} is not an option.{did_you_mean(name, known)}"
    instead = INSTEAD.get(name, "remove it, or set it to its default")
    if command not in scripts:
        return f"{subject} is an option of sd-scripts, but not of {command}; remove it."
    return f"{subject} is known to sd-scripts, but not built here yet; {instead}."
