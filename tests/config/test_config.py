"""Defaults, presets, files and flags are one config."""

import pickle

import pytest

from backend.config.config import Layer, make_config, merge_config
from backend.faults import Faults

TRAIN = "train_network"


def faults_of(values, origin=""):
    with pytest.raises(Faults) as raised:
        make_config(TRAIN, values, origin)
    return raised.value.messages


def test_a_later_layer_wins_and_the_rest_stays():
    config = merge_config(TRAIN, [Layer({"seed": 1, "network_dim": 8, "learning_rate": 1.0}, "p.json"), Layer({"seed": 2, "network_dim": 16}, "c.toml"), Layer({"seed": 3})])
    assert (config.training.seed, config.network.network_dim, config.optimizer.learning_rate) == (3, 16, 1.0)
    assert config.given == {"seed", "network_dim", "learning_rate"}
    assert config.training.max_train_steps == 1600


def test_a_value_that_a_later_layer_replaces_is_not_judged():
    assert merge_config(TRAIN, [Layer({"mixed_precision": "fp16"}, "p.json"), Layer({"mixed_precision": "bf16"})]).training.mixed_precision == "bf16"


def test_all_faults_are_told_at_once_with_the_file_they_stand_in():
    told = faults_of({"learing_rate": 1, "seed": -1, "xformers": True}, "my.toml")
    assert told == [
        "learing_rate in my.toml is not an option. Did you mean learning_rate?",
        "xformers in my.toml is known to sd-scripts, but not built here yet; remove it: sdpa, which is on, saves as much memory.",
        "seed in my.toml is -1, but must be between 0 and 9223372036854775807."]


@pytest.mark.parametrize("values", [
    {"xformers": False, "mem_eff_attn": "false", "in_json": "", "base_weights": [], "weighted_captions": None},
    {"max_token_length": 75, "max_timestep": 1000, "min_timestep": 0, "log_with": "tensorboard", "loss_type": "l2"},
    {"huber_c": 0.1, "huber_schedule": "snr", "multires_noise_discount": 0.3, "multires_noise_iterations": 0, "dynamo_backend": "no"},
    {"epoch": 1, "noise_offset_type": "Original", "no_half_vae": True, "scale_weight_norms": 0.0, "train_text_encoder": False},
])
def test_names_that_are_not_built_but_change_nothing_are_let_in(values):
    assert make_config(TRAIN, values).values() == make_config(TRAIN, {}).values()


@pytest.mark.parametrize("name, value, word", [
    ("max_token_length", 225, "not built here yet"),
    ("max_timestep", 900, "not built here yet"),
    ("log_with", "wandb", "not built here yet"),
    ("loss_type", "huber", "not built here yet"),
    ("multires_noise_iterations", 6, "not built here yet"),
    ("use_8bit_adam", True, "write optimizer_type = AdamW8bit instead"),
    ("train_text_encoder", True, "not of train_network"),
    ("learning_rate_te1", 0, "not of train_network"),
    ("num_repeats", 2, "can only stand in a dataset file"),
    ("config_file", "a.toml", "can only be given on the command line"),
])
def test_names_that_would_change_something_but_are_not_built_are_refused(name, value, word):
    (told,) = faults_of({name: value})
    assert told.startswith(name) and word in told


def test_an_old_name_is_the_option():
    config = make_config(TRAIN, {"batch_size": 3, "caption_extention": ".txt"})
    assert (config.data.train_batch_size, config.data.caption_extension) == (3, ".txt")


def test_an_old_name_beside_the_option_must_agree_with_it():
    assert make_config(TRAIN, {"batch_size": 3, "train_batch_size": 3}).data.train_batch_size == 3
    assert faults_of({"batch_size": 3, "train_batch_size": 4}) == [
        "train_batch_size is another name of batch_size, which has another value; keep one of them."]


def test_replacing_a_value_leaves_the_old_config_alone():
    config = make_config(TRAIN, {"seed": 1})
    changed = config.replace(seed="9", network_dim=2)
    assert (config.training.seed, changed.training.seed, changed.network.network_dim) == (1, 9, 2)
    assert changed.given == {"seed", "network_dim"}
    with pytest.raises(Faults, match="seed is -1"):
        config.replace(seed=-1)
    with pytest.raises(Faults, match="sed is not an option. Did you mean seed"):
        config.replace(sed=1)


def test_a_config_travels_to_another_process():
    config = make_config(TRAIN, {"network_args": ["conv_dim=4"]})
    again = pickle.loads(pickle.dumps(config))
    assert again == config and again.network.network_args == ["conv_dim=4"]


def test_two_configs_share_no_list():
    first, second = make_config(TRAIN, {}), make_config(TRAIN, {})
    assert first.data.resolution == second.data.resolution and first.data.resolution is not second.data.resolution


def test_a_flag_of_steps_wins_over_a_file_of_epochs():
    layers = [Layer({"max_train_epochs": 9, "sample_every_n_epochs": 1}, "cat.toml"), Layer({"max_train_steps": 30})]
    read = merge_config("train_network", layers)
    assert (read.training.max_train_epochs, read.training.max_train_steps, read.sampling.sample_every_n_epochs) == (None, 30, 1)


def test_side_by_side_epochs_win_over_steps():
    read = make_config("train_network", {"max_train_epochs": 9, "max_train_steps": 30})
    assert (read.training.max_train_epochs, read.training.max_train_steps) == (9, 30)


def test_a_key_of_the_gui_that_nothing_obeys_is_told(caplog):
    make_config("train_network", {"epoch": 10, "huggingface_token": "", "log_with": "tensorboard"}, "cat.toml")
    assert caplog.messages == ["epoch in cat.toml is left out: it changes nothing here. To train so many epochs, write max_train_epochs."]
