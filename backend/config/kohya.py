"""Presets of the kohya_ss GUI: flat JSON objects, turned into our options with a report of what became of each setting."""

from dataclasses import dataclass, field
from typing import Any, Callable

from backend.config.commands import fields_of
from backend.config.known import INSTEAD, is_harmless, sd_scripts_names, same

# Keys that only this GUI writes: one of them tells its presets.
MARKS = frozenset((
    "LoRA_type", "epoch", "lr_warmup", "max_resolution", "model_list", "num_cpu_threads_per_process", "optimizer", "use_8bit_adam"))

# Keys of the page itself and of accelerate's launcher, which say nothing about the training.
PAGE = frozenset((
    "LyCORIS_preset", "dynamo_backend", "dynamo_mode", "dynamo_use_dynamic", "dynamo_use_fullgraph", "gpu_ids", "lowvram", "main_process_port",
    "model_list", "no_token_padding", "num_cpu_threads_per_process", "save_as_bool", "train_lora_ggpo", "training_preset"))

# Keys that this GUI hands on only for models of other families, though it always writes them.
OTHER_FAMILIES = frozenset((
    "ae", "apply_t5_attn_mask", "blocks_to_swap", "clip_g", "clip_g_dropout_rate", "clip_l", "cpu_offload_checkpointing", "discrete_flow_shift",
    "double_blocks_to_swap", "enable_all_linear", "fp8_base_unet", "ggpo_beta", "ggpo_sigma", "guidance_scale", "img_attn_dim", "img_mlp_dim",
    "img_mod_dim", "in_dims", "logit_mean", "logit_std", "mem_eff_save", "mode_scale", "model_prediction_type", "model_type",
    "pos_emb_random_crop_rate", "save_clip", "save_t5xxl", "show_timesteps", "show_timesteps_resolution", "single_blocks_to_swap", "single_dim",
    "single_mod_dim", "split_mode", "split_qkv", "t5xxl", "t5xxl_device", "t5xxl_dtype", "t5xxl_lr", "t5xxl_max_token_length",
    "timestep_sampling", "train_blocks", "train_double_block_indices", "train_single_block_indices", "train_t5xxl", "txt_attn_dim",
    "txt_mlp_dim", "txt_mod_dim", "weighting_scheme"))
FAMILY_PREFIXES = ("anima_", "flux1_", "flux_", "hunyuan_", "lumina_", "sd3_", "sdxl_")
FAMILIES = {
    "sdxl": "SDXL", "sdxl_checkbox": "SDXL", "flux1_checkbox": "FLUX.1", "sd3_checkbox": "Stable Diffusion 3", "hunyuan_image_checkbox": "HunyuanImage",
    "anima_checkbox": "Anima", "lumina_checkbox": "Lumina"}

SECRETS = ("huggingface_token", "wandb_api_key")
MODULES = {
    "Standard": "networks.lora", "Kohya LoCon": "networks.lora", "LoRA-FA": "networks.lora_fa", "Kohya DyLoRA": "networks.dylora",
    "Kohya LoHa": "networks.loha", "Kohya LoKr": "networks.lokr", "Flux1": "networks.lora_flux", "Flux1 OFT": "networks.oft_flux",
    "HunyuanImage-2.1": "networks.lora_hunyuan_image", "Anima": "networks.lora_anima", "Lumina": "networks.lora_lumina"}

# Settings that this GUI puts into network_args.
NETWORK_ARGS = ("rank_dropout", "module_dropout")
CONV_ARGS = ("conv_dim", "conv_alpha")
UNBUILT_ARGS = (
    "block_alphas", "block_dims", "block_lr_zero_threshold", "conv_block_alphas", "conv_block_dims", "down_lr_weight", "loraplus_lr_ratio",
    "loraplus_text_encoder_lr_ratio", "loraplus_unet_lr_ratio", "mid_lr_weight", "up_lr_weight")
OTHER_NETWORKS_ARGS = (
    "bypass_mode", "constrain", "decompose_both", "dora_wd", "factor", "rank_dropout_scale", "rescaled", "train_norm", "train_on_input", "unit",
    "use_cp", "use_scalar", "use_tucker")

RENAMED = {
    "max_resolution": "resolution", "lora_network_weights": "network_weights", "conv_dims": "conv_block_dims", "conv_alphas": "conv_block_alphas",
    "stop_text_encoder_training_pct": "stop_text_encoder_training"}
# 0 is a setting here; elsewhere this GUI writes 0 for "not set".
MEANT_AT_ZERO = ("max_data_loader_n_workers", "max_grad_norm", "network_alpha", "prior_loss_weight")
NOISE_KINDS = {
    "Multires": ("noise_offset", "noise_offset_random_strength", "adaptive_noise_scale"),
    "Original": ("multires_noise_iterations", "multires_noise_discount")}


def is_kohya(content: Any) -> bool:
    """Whether a JSON file is a preset of that GUI."""
    return isinstance(content, dict) and "options" not in content and bool(MARKS & set(content))


@dataclass
class Carried:
    """A preset on its way: what is still to be read, what has become an option, and what there is to tell."""

    left: dict[str, Any]
    command: str
    values: dict[str, Any] = field(default_factory=dict)
    report: list[str] = field(default_factory=list)

    def take(self, name: str) -> Any:
        """A setting, which is then done with; None where it is absent or not set."""
        value = self.left.pop(name, None)
        return None if is_unset(name, value) else value

    def drop(self, names) -> None:
        """Be done with settings that say nothing."""
        for name in names:
            self.left.pop(name, None)

    def leave_out(self, name: str, why: str) -> None:
        """Be done with a setting that cannot be carried over, and tell so if it was set."""
        if self.take(name) is not None:
            self.report.append(f"{name} was left out: {why}.")


def translate(content: dict[str, Any], command: str) -> Carried:
    """Our options from a preset's settings. A choice that is not built here is carried over all the same, for the door to refuse."""
    carried = Carried(dict(content), command)
    for step in STEPS:
        step(carried)
    for name in list(carried.left):
        carry(carried, name)
    return carried


def is_unset(name: str, value: Any) -> bool:
    """Whether the value is how this GUI writes nothing."""
    if value is None or value == "" or value is False:
        return True
    return name not in MEANT_AT_ZERO and same(value, 0)


def carry(carried: Carried, name: str) -> None:
    """Bring one setting over under its own name, or tell why not."""
    value = carried.take(name)
    if value is None:
        return
    if name in fields_of(carried.command):
        carried.values[name] = value
    elif name not in sd_scripts_names():
        carried.report.append(f"{name} was left out: it is not known.")
    elif not is_harmless(name, value):
        instead = f"; {INSTEAD[name]}" if name in INSTEAD else ""
        carried.report.append(f"{name} was left out: it is not built here yet{instead}.")


def rename(carried: Carried) -> None:
    """Give settings their proper names."""
    for old, new in RENAMED.items():
        value = carried.take(old)
        if value is not None and is_unset(new, carried.left.get(new)):
            carried.left[new] = value
            carried.report.append(f"{old} is called {new} here.")


def tell_origin(carried: Carried) -> None:
    """Say so where the preset is made for another method or family of models."""
    if "LoRA_type" not in carried.left:
        carried.report.append("This preset is not one for LoRA; what it shares with LoRA was carried over.")
    for mark in FAMILIES:
        if carried.take(mark) is True:
            carried.report.append(f"This preset is made for {FAMILIES[mark]} models, which are not built here yet.")
    carried.drop([name for name in carried.left if name in OTHER_FAMILIES or name.startswith(FAMILY_PREFIXES)])


def drop_page(carried: Carried) -> None:
    """Leave out what belongs to the page, the launcher, or to nobody but the owner."""
    carried.drop(PAGE)
    for name in SECRETS:
        carried.leave_out(name, "a secret does not belong in a preset")
    for name in ("additional_parameters", "extra_accelerate_launch_args"):
        carried.leave_out(name, "give what it holds as flags, where it is known here")
    many = [name for name in ("num_processes", "num_machines") if not same(carried.take(name) or 1, 1)]
    if carried.take("multi_gpu") or many:
        carried.report.append("multi_gpu, num_processes and num_machines were left out: how many processes train is not a part of a preset.")


def read_optimizer(carried: Carried) -> None:
    """The optimizer under its present name, and its settings as a list."""
    old = carried.take("use_8bit_adam")
    carried.values["optimizer_type"] = carried.take("optimizer") or ("AdamW8bit" if same_word(old, "true") else "AdamW")
    for name in ("optimizer_args", "lr_scheduler_args"):
        value = carried.take(name)
        if isinstance(value, str):
            carried.left[name] = value.replace('"', "").split()


def read_length(carried: Carried) -> None:
    """Steps, epochs and warm-up. This GUI's `epoch` counts only where it names no steps."""
    epoch, steps = carried.take("epoch"), carried.take("max_train_steps")
    if steps is not None:
        carried.values["max_train_steps"] = steps
    elif epoch is not None and is_unset("max_train_epochs", carried.left.get("max_train_epochs")):
        carried.values["max_train_epochs"] = epoch
        carried.report.append("epoch is called max_train_epochs here.")
    percent, warmup = carried.take("lr_warmup"), carried.take("lr_warmup_steps")
    if warmup is not None:
        carried.values["lr_warmup_steps"] = warmup
    elif percent is not None:
        carried.values["lr_warmup_steps"] = f"{percent}%"
        carried.report.append("lr_warmup, a percentage, is written as lr_warmup_steps here.")


def read_rates(carried: Carried) -> None:
    """Learning rates of the parts; in this GUI a part whose rate is 0 is not trained."""
    given = {name for name in ("unet_lr", "text_encoder_lr") if name in carried.left}
    unet, text = carried.take("unet_lr"), carried.take("text_encoder_lr")
    if unet is not None:
        carried.values["unet_lr"] = unet
    if text is not None:
        carried.values["text_encoder_lr"] = text if isinstance(text, list) else [text]
    if "text_encoder_lr" in given and text is None and unet is not None:
        carried.values["network_train_unet_only"] = True
        carried.report.append("text_encoder_lr 0 is written as network_train_unet_only here.")
    if "unet_lr" in given and unet is None and text is not None:
        carried.values["network_train_text_encoder_only"] = True
        carried.report.append("unet_lr 0 is written as network_train_text_encoder_only here.")


def read_network(carried: Carried) -> None:
    """The kind of network, and the settings that go into network_args."""
    kind = carried.take("LoRA_type") or "Standard"
    carried.values["network_module"] = MODULES.get(kind, "lycoris.kohya")
    names = NETWORK_ARGS + (CONV_ARGS if kind == "Kohya LoCon" else ())
    found = {name: carried.take(name) for name in names}
    arguments = [f"{name}={value}" for name, value in found.items() if value is not None]
    if arguments:
        carried.values["network_args"] = arguments
        carried.report.append(f"{', '.join(name for name in names if found[name] is not None)} stand in network_args here.")
    for name in UNBUILT_ARGS:
        carried.leave_out(name, "it is not built here yet")
    carried.drop((*CONV_ARGS, *OTHER_NETWORKS_ARGS))


def read_attention(carried: Carried) -> None:
    """xformers, sdpa or none; older presets hold true and false."""
    if "xformers" not in carried.left:
        return
    chosen = carried.left.pop("xformers")
    carried.values["sdpa"] = chosen is True or str(chosen).lower() in ("xformers", "sdpa", "true")
    if chosen is True or same_word(chosen, "xformers"):
        carried.report.append("xformers is not built here; sdpa, which saves as much memory, is used instead.")


def read_noise(carried: Carried) -> None:
    """Only the chosen kind of noise counts."""
    carried.drop(NOISE_KINDS.get(carried.left.pop("noise_offset_type", "Original"), ()))


def read_samples(carried: Carried) -> None:
    """This GUI keeps the prompts themselves in a preset; here they are a file."""
    prompts = carried.take("sample_prompts")
    triggers = [name for name in ("sample_every_n_steps", "sample_every_n_epochs") if carried.take(name) is not None]
    if prompts is not None:
        told = f", with {' or '.join(triggers)}" if triggers else ""
        carried.report.append(f"sample_prompts was left out: it holds the prompts themselves. Save them in a text file, and name it as sample_prompts{told}.")
    elif triggers:
        carried.report.append(f"{', '.join(triggers)} was left out: there are no prompts to draw.")


def read_rest(carried: Carried) -> None:
    """Settings with a rule of their own."""
    if str(carried.left.get("save_model_as") or "safetensors").lower() not in ("safetensors", "ckpt"):
        carried.left["save_model_as"] = "safetensors"
        carried.report.append("save_model_as is safetensors: a LoRA is not saved in another layout.")
    carried.leave_out("stop_text_encoder_training", "that GUI does not obey it for a LoRA either")
    if same_word(carried.take("use_wandb"), "true"):
        carried.left["log_with"] = "wandb"
    if carried.left.get("max_data_loader_n_workers") == "":
        carried.left["max_data_loader_n_workers"] = 0


def same_word(value: Any, word: str) -> bool:
    """Whether the value is this word, whatever its capitals or type."""
    return str(value).lower() == word


STEPS: tuple[Callable[[Carried], None], ...] = (
    tell_origin, rename, drop_page, read_optimizer, read_length, read_rates, read_network, read_attention, read_noise, read_samples, read_rest)
