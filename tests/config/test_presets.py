"""Presets of our own, and those of the kohya_ss GUI."""

import json

import pytest

from backend.config.config import Layer, make_config, merge_config
from backend.config.presets import load_preset, preset_names
from backend.faults import Faults

TRAIN = "train_network"

# Keys and values as that GUI writes them for a LoRA, old and new habits mixed: numbers as text, "" for nothing.
KOHYA = {
    "LoRA_type": "Kohya LoCon", "adaptive_noise_scale": 0, "additional_parameters": "", "block_alphas": "", "bucket_no_upscale": True, "cache_latents": True,
    "cache_latents_to_disk": True, "caption_extension": ".none-use-foldername", "clip_skip": "1", "color_aug": False, "conv_alpha": 2, "conv_dim": 4,
    "decompose_both": False, "enable_bucket": True, "epoch": 160, "factor": -1, "gradient_accumulation_steps": 4.0, "keep_tokens": "0", "learning_rate": "1e-4",
    "lora_network_weights": "", "lr_scheduler": "cosine", "lr_scheduler_num_cycles": "", "lr_scheduler_power": "", "lr_warmup": 10, "max_bucket_reso": "2048",
    "max_data_loader_n_workers": "0", "max_grad_norm": 0, "max_resolution": "512,768", "max_timestep": 1000, "max_token_length": "75", "max_train_epochs": "",
    "min_snr_gamma": 10, "mixed_precision": "bf16", "module_dropout": 0, "rank_dropout": 0.1, "multires_noise_discount": 0.2, "multires_noise_iterations": 8,
    "network_alpha": 16, "network_dim": 32, "network_dropout": 0, "no_token_padding": False, "noise_offset": 0.05, "noise_offset_type": "Original",
    "num_cpu_threads_per_process": 2, "optimizer": "AdamW8bit", "optimizer_args": "weight_decay=0.01 \"betas=.9,.99\"", "sample_sampler": "euler_a",
    "sample_prompts": "a cat --w 512", "sample_every_n_steps": 100, "save_every_n_epochs": 10, "save_precision": "fp16", "scale_weight_norms": 0, "seed": "1234",
    "stop_text_encoder_training": 0, "text_encoder_lr": 0, "unet_lr": 0.0002, "train_batch_size": 2, "vae_batch_size": 0, "weighted_captions": True,
    "xformers": True, "wandb_api_key": "secret-key", "discrete_flow_shift": 3.0, "flux1_t5xxl": "x", "timestep_sampling": "sigma", "down_lr_weight": "1,1"}


def saved(folder, content, name="p.json"):
    path = folder / name
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


@pytest.fixture
def kohya(tmp_path):
    def load(**changes):
        content = {name: value for name, value in {**KOHYA, **changes}.items() if value is not None}
        return load_preset(saved(tmp_path, content), TRAIN)
    return load


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_names_no_path(name):
    preset = load_preset(name, TRAIN)
    assert preset.about and set(preset.values) <= set(make_config(TRAIN, preset.values).values())
    assert not [value for value in preset.values.values() if isinstance(value, str) and "/" in value]


def test_a_preset_that_does_not_exist_gets_the_nearest():
    with pytest.raises(Faults, match="Did you mean lora/demo"):
        load_preset("lora/demos", TRAIN)


@pytest.mark.parametrize("content, word", [
    ([1], "is not a preset"), ({"version": 1}, "is not a preset"), ({"version": 2, "about": "", "options": {}}, "has version 2"),
    ({"version": 1, "options": {}}, "must say in \"about\""), ({"version": 1, "about": "", "options": {}, "option": 1}, "Did you mean options?")])
def test_a_malformed_preset_is_explained(tmp_path, content, word):
    with pytest.raises(Faults) as raised:
        load_preset(saved(tmp_path, content), TRAIN)
    assert word in str(raised.value)


def test_broken_json_is_explained(tmp_path):
    (tmp_path / "p.json").write_text("{")
    with pytest.raises(Faults, match="is not valid JSON"):
        load_preset(str(tmp_path / "p.json"), TRAIN)


def test_an_unknown_name_in_a_preset_is_told_with_the_file(tmp_path):
    preset = load_preset(saved(tmp_path, {"version": 1, "about": "", "options": {"network_dimm": 1}}), TRAIN)
    with pytest.raises(Faults, match="network_dimm in .*p.json is not an option. Did you mean network_dim?"):
        merge_config(TRAIN, [Layer(preset.values, preset.origin)])


def test_a_gui_preset_becomes_our_options(kohya):
    preset = kohya()
    config = make_config(TRAIN, preset.values)
    read = config.values()
    expected = {
        "network_module": "networks.lora", "network_args": ["rank_dropout=0.1", "conv_dim=4", "conv_alpha=2"], "network_dim": 32, "network_alpha": 16.0,
        "resolution": [512, 768], "max_bucket_reso": 2048, "optimizer_type": "AdamW8bit", "optimizer_args": ["weight_decay=0.01", "betas=.9,.99"],
        "learning_rate": 1e-4, "unet_lr": 2e-4, "text_encoder_lr": [], "network_train_unet_only": True, "lr_warmup_steps": 0.1, "max_train_epochs": 160,
        "seed": 1234, "max_data_loader_n_workers": 0, "max_grad_norm": 0.0, "gradient_accumulation_steps": 4, "clip_skip": 1, "noise_offset": 0.05,
        "min_snr_gamma": 10.0, "sdpa": True, "caption_extension": ".none-use-foldername", "save_every_n_epochs": 10, "save_precision": "fp16",
        "vae_batch_size": 1, "sample_prompts": None, "sample_every_n_steps": None, "lr_scheduler_num_cycles": 1, "network_dropout": None}
    assert {name: read[name] for name in expected} == expected


def test_what_a_gui_preset_holds_beyond_our_options_is_reported(kohya):
    report = kohya().notes
    told = " ".join(report)
    assert [line for line in report if line.startswith("weighted_captions was left out: it is not built")]
    assert [line for line in report if line.startswith("down_lr_weight was left out")]
    assert [line for line in report if line.startswith("cache_latents_to_disk was left out") and "write cache_latents" in line]
    assert [line for line in report if line.startswith("sample_prompts was left out") and "with sample_every_n_steps" in line]
    assert "max_resolution is called resolution here." in report and "wandb_api_key was left out: a secret" in told and "secret-key" not in told
    for silent in ("multires", "discrete_flow_shift", "flux1", "max_timestep", "factor", "no_token_padding", "num_cpu"):
        assert silent not in told


def test_an_unknown_key_of_a_gui_preset_is_reported(kohya):
    assert "wobble was left out: it is not known." in kohya(wobble=3).notes


@pytest.mark.parametrize("changes, expected", [
    ({"max_train_steps": 500}, {"max_train_steps": 500, "max_train_epochs": None}),
    ({"max_train_epochs": 7}, {"max_train_epochs": 7}),
    ({"max_train_steps": "", "epoch": "3"}, {"max_train_epochs": 3}),
    ({"lr_warmup_steps": 25}, {"lr_warmup_steps": 25}),
    ({"lr_warmup": "0"}, {"lr_warmup_steps": 0}),
    ({"optimizer": None, "use_8bit_adam": True}, {"optimizer_type": "AdamW8bit"}),
    ({"optimizer": None}, {"optimizer_type": "AdamW"}),
    ({"noise_offset_type": "Multires"}, {"noise_offset": None}),
    ({"xformers": "none"}, {"sdpa": False}),
    ({"LoRA_type": "Standard"}, {"network_args": ["rank_dropout=0.1"]}),
    ({"unet_lr": 0, "text_encoder_lr": "5e-5"}, {"unet_lr": None, "text_encoder_lr": [5e-5], "network_train_text_encoder_only": True, "network_train_unet_only": False}),
    ({"unet_lr": None, "text_encoder_lr": None}, {"unet_lr": None, "network_train_unet_only": False, "network_train_text_encoder_only": False}),
    ({"lora_network_weights": "old.safetensors"}, {"network_weights": "old.safetensors"}),
    ({"save_model_as": "diffusers"}, {"save_model_as": "safetensors"}),
    ({"seed": 0}, {"seed": None}),
])
def test_a_gui_preset_with_a_habit_of_its_own(kohya, changes, expected):
    read = make_config(TRAIN, kohya(**changes).values).values()
    assert {name: read[name] for name in expected} == expected


@pytest.mark.parametrize("changes, word", [
    ({"LoRA_type": "LyCORIS/LoHa"}, 'network_module in p is "lycoris.kohya", which is known to sd-scripts, but not built'),
    ({"optimizer": "Prodigy"}, 'optimizer_type in p is "Prodigy"'), ({"mixed_precision": "fp16"}, 'mixed_precision in p is "fp16"')])
def test_a_gui_preset_for_something_not_built_is_refused_and_not_bent(kohya, changes, word):
    with pytest.raises(Faults) as raised:
        make_config(TRAIN, kohya(**changes).values, "p")
    assert word in str(raised.value)


@pytest.mark.parametrize("changes, word", [({"sdxl": True}, "made for SDXL"), ({"flux1_checkbox": True}, "made for FLUX.1"), ({"LoRA_type": None}, "not one for LoRA")])
def test_a_gui_preset_for_other_models_says_so(kohya, changes, word):
    assert word in kohya(**changes).notes[0]
