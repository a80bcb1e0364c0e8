"""What a person writes becomes a typed value, or a sentence that says what to do."""

import os

import pytest

from backend.config.config import make_config
from backend.faults import Faults

TRAIN = "train_network"


def value(name, written):
    return make_config(TRAIN, {name: written}).values()[name]


def fault(name, written):
    with pytest.raises(Faults) as raised:
        make_config(TRAIN, {name: written})
    return str(raised.value)


@pytest.mark.parametrize("name, written, expected", [
    ("learning_rate", "1e-4", 0.0001),
    ("learning_rate", 1, 1.0),
    ("max_train_steps", "12", 12),
    ("max_train_steps", 12.0, 12),
    ("max_train_steps", "1e3", 1000),
    ("seed", str(2**63 - 1), 2**63 - 1),
    ("flip_aug", "true", True),
    ("flip_aug", 1, True),
    ("sdpa", "off", False),
    ("output_name", 7, "7"),
    ("train_data_dir", "~/cats", os.path.join(os.path.expanduser("~"), "cats")),
    ("output_name", "~cat", "~cat"),
    ("optimizer_type", "adamw8BIT", "AdamW8bit"),
    ("text_encoder_lr", 1e-4, [0.0001]),
    ("text_encoder_lr", ["1e-4", 2e-4], [0.0001, 0.0002]),
    ("network_args", "conv_dim=4  conv_alpha=1", ["conv_dim=4", "conv_alpha=1"]),
    ("network_args", ["conv_dim=4 conv_alpha=1"], ["conv_dim=4 conv_alpha=1"]),
    ("resolution", "512,768", [512, 768]),
    ("resolution", 256, [256, 256]),
    ("lr_warmup_steps", "5%", 0.05),
    ("lr_warmup_steps", "100", 100),
])
def test_a_value_is_taken_as_a_person_would_write_it(name, written, expected):
    read = value(name, written)
    assert read == expected and type(read) is type(expected)


@pytest.mark.parametrize("name", ["clip_skip", "vae", "max_train_epochs", "save_precision", "min_snr_gamma"])
@pytest.mark.parametrize("nothing", ["", "  ", None])
def test_nothing_written_means_no_value_where_there_may_be_none(name, nothing):
    assert value(name, nothing) is None


def test_the_word_none_switches_an_optional_number_off():
    assert value("min_snr_gamma", "None") is None


def test_an_empty_list_option_is_an_empty_list():
    assert value("text_encoder_lr", "") == [] and value("network_args", [""]) == []


def test_an_empty_choice_means_the_default():
    assert value("optimizer_type", "") == "AdamW"


@pytest.mark.parametrize("name, written, sentence", [
    ("learning_rate", -1.0, "learning_rate is -1.0, but must be 0 or more."),
    ("learning_rate", "-1", "learning_rate is -1.0, but must be 0 or more."),
    ("learning_rate", "fast", 'learning_rate is "fast", but must be a number.'),
    ("learning_rate", "nan", 'learning_rate is "nan", but must be a finite number.'),
    ("learning_rate", True, "learning_rate is true, but must be a number."),
    ("learning_rate", "", "learning_rate is empty, but must be a number."),
    ("learning_rate", [1e-4], "learning_rate is [0.0001], but must be a number."),
    ("max_train_steps", 1.5, "max_train_steps is 1.5, but must be a whole number."),
    ("max_train_steps", 0, "max_train_steps is 0, but must be 1 or more."),
    ("flip_aug", "maybe", 'flip_aug is "maybe", but must be true or false.'),
    ("flip_aug", 2, "flip_aug is 2, but must be true or false."),
    ("output_name", True, "output_name is true, but must be text."),
    ("caption_dropout_rate", 1.5, "caption_dropout_rate is 1.5, but must be between 0 and 1."),
    ("min_snr_gamma", 0, "min_snr_gamma is 0.0, but must be more than 0."),
    ("text_encoder_lr", [1e-4, -2], "text_encoder_lr is [0.0001, -2.0], but every value must be 0 or more."),
    ("resolution", "big", 'resolution is "big", but must be a size such as 512, or a width and a height such as "512,768".'),
    ("optimizer_type", "AdamW9", 'optimizer_type is "AdamW9", which is not known. Did you mean "AdamW"? Choose one of: AdamW, AdamW8bit.'),
    ("optimizer_type", "lion", 'optimizer_type is "lion", which is known to sd-scripts, but not built here yet. Choose one of: AdamW, AdamW8bit.'),
    ("mixed_precision", "fp16", 'mixed_precision is "fp16", which is known to sd-scripts, but not built here yet. Choose one of: no, bf16.'),
])
def test_a_wrong_value_is_told_with_what_it_must_be(name, written, sentence):
    assert fault(name, written) == sentence


@pytest.mark.parametrize("name, edge", [("caption_dropout_rate", 0), ("caption_dropout_rate", 1), ("seed", 0), ("network_dim", 1)])
def test_the_edge_of_a_range_belongs_to_it(name, edge):
    assert value(name, edge) == edge
