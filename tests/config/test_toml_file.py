"""Config files in TOML are read as sd-scripts' users write them, and written whole."""

import random
import tomllib

import pytest
import toml

from backend.config.command_line import read_command_line
from backend.config.commands import COMMANDS, Command, alias_names, fields_of
from backend.config.config import make_config
from backend.config.option import Options, option
from backend.config.toml_file import quoted, read_values, write_config
from backend.faults import Faults

TRAIN = "train_network"


def written(folder, text):
    path = folder / "my.toml"
    path.write_text(text, encoding="utf-8")
    return path


def fault(path):
    with pytest.raises(Faults) as raised:
        read_values(path)
    return str(raised.value)


def test_sections_of_any_name_and_none_are_read_alike(tmp_path):
    path = written(tmp_path, 'seed = 1\n[whatever]\nlearning_rate = 1e-4\n["Zwei Wörter"]\nnetwork_args = ["a=1", "b=2"]\n')
    assert read_values(path) == {"seed": 1, "learning_rate": 1e-4, "network_args": ["a=1", "b=2"]}


def test_the_ending_may_be_left_off(tmp_path):
    written(tmp_path, "seed = 4\n")
    assert read_values(tmp_path / "my") == {"seed": 4}


def test_a_file_of_a_windows_editor_is_read(tmp_path):
    path = tmp_path / "my.toml"
    path.write_bytes(b"\xef\xbb\xbfseed = 4\r\n")
    assert read_values(path) == {"seed": 4}


def test_the_same_name_in_two_sections_must_agree(tmp_path):
    assert read_values(written(tmp_path, "[a]\nseed = 1\n[b]\nseed = 1\n")) == {"seed": 1}
    assert "seed in" in fault(written(tmp_path, "[a]\nseed = 1\n[b]\nseed = 2\n"))
    assert "has two values, in [a] and in [b]" in fault(tmp_path / "my.toml")


def test_a_section_within_a_section_is_refused(tmp_path):
    assert "a.b in" in fault(written(tmp_path, "[a.b]\nseed = 1\n"))


def test_a_dataset_file_is_told_apart(tmp_path):
    assert "dataset_config" in fault(written(tmp_path, "[general]\n[[datasets]]\nresolution = 512\n"))


def test_a_windows_path_in_double_quotes_is_explained(tmp_path):
    assert "'single quotes'" in fault(written(tmp_path, 'output_dir = "C:\\models"\n'))


def test_a_missing_or_foreign_file_is_named(tmp_path):
    assert "nowhere.toml cannot be read" in fault(tmp_path / "nowhere")
    (tmp_path / "latin.toml").write_bytes('output_name = "K\u00f6ln"'.encode("latin-1"))
    assert "is not UTF-8 text (byte 16)" in fault(tmp_path / "latin.toml")


def test_a_written_config_reads_back_the_same_and_holds_every_option(tmp_path):
    config = make_config(TRAIN, {
        "learning_rate": 2e-6, "network_args": ['a="x"', "b=\\n"], "output_name": "Köln \"7\" \\x41 \t# ;", "seed": 2**63 - 1, "lr_warmup_steps": 0.05,
        "training_comment": "two\nlines\x7f\x00\u2028", "text_encoder_lr": [1e-5, 5e-324], "sdpa": False, "caption_separator": "'"})
    write_config(tmp_path / "all", config)
    text = (tmp_path / "all.toml").read_text(encoding="utf-8")
    assert make_config(TRAIN, read_values(tmp_path / "all")).values() == config.values()
    sections = tomllib.loads(text)
    assert sections["training"]["sdpa"] is False and sections["optimizer"]["optimizer_type"] == "AdamW"
    names = {name for section in sections.values() for name in section}
    assert {name for name, value in config.values().items() if value is not None} == names


def test_any_text_can_be_written(tmp_path):
    draw = random.Random(1)
    for _ in range(300):
        text = "".join(draw.choice('ax\\"\'\n\t\x00\x1f\x7f\u0085\u2028é漢😀#[]=.xuU0') for _ in range(12))
        assert tomllib.loads(f"a = {quoted(text)}")["a"] == text


def test_what_cannot_be_written_leaves_no_file(tmp_path):
    config = make_config(TRAIN, {"output_name": "\ud800"})
    with pytest.raises(Faults, match="was not written"):
        write_config(tmp_path / "all", config)
    assert list(tmp_path.iterdir()) == []


def test_the_file_that_the_usual_gui_writes_is_read_but_for_xformers(tmp_path):
    values = {
        "bucket_no_upscale": True, "bucket_reso_steps": 64, "cache_latents": True, "caption_extension": ".txt", "clip_skip": 1, "dynamo_backend": "no",
        "enable_bucket": True, "epoch": 1, "huber_c": 0.1, "huber_scale": 1, "huber_schedule": "snr", "learning_rate": 0.0001, "loss_type": "l2",
        "lr_scheduler": "cosine", "lr_scheduler_args": [], "lr_scheduler_power": 1, "lr_warmup_steps": 0.1, "max_grad_norm": 1, "max_timestep": 1000,
        "max_token_length": 75, "mixed_precision": "bf16", "multires_noise_discount": 0.3, "network_alpha": 1, "network_module": "networks.lora",
        "noise_offset_type": "Original", "optimizer_type": "AdamW8bit", "persistent_data_loader_workers": 1, "resolution": "512,768",
        "sample_sampler": "euler_a", "text_encoder_lr": 5e-05, "wandb_run_name": "last", "xformers": True}
    path = written(tmp_path, toml.dumps(values))
    with pytest.raises(Faults) as raised:
        make_config(TRAIN, read_values(path))
    assert len(raised.value.messages) == 1 and raised.value.messages[0].startswith("xformers")
    config = make_config(TRAIN, {**read_values(path), "xformers": False})
    assert (config.data.resolution, config.network.text_encoder_lr, config.optimizer.lr_warmup_steps) == ([512, 768], [5e-05], 0.1)


class ProbeOptions(Options):
    """A group with what the other groups have no use for yet."""

    word: str = option("", "A word.", positional=True, example=("a", "words"))
    api_key: str = option("", "A key.", secret=True, example=("k", "words"))
    rate: float | None = option(None, "A rate.", default_for={"probe": 3.0}, example=(1.0, "result"))


@pytest.fixture
def probe(monkeypatch):
    """A command of that group."""
    monkeypatch.setitem(COMMANDS, "probe", Command("probe", "Try things.", (ProbeOptions,)))
    yield "probe"
    for table in (fields_of, alias_names):
        table.cache_clear()


def test_a_secret_is_never_written(tmp_path, probe):
    write_config(tmp_path / "all", make_config(probe, {"api_key": "hush-hush", "word": "w"}))
    assert tomllib.loads((tmp_path / "all.toml").read_text()) == {"probe": {"word": "w", "rate": 3.0}}


def test_none_where_the_default_is_something_else_is_written_and_read_back(tmp_path, probe):
    assert make_config(probe, {}).probe.rate == 3.0
    write_config(tmp_path / "all", make_config(probe, {"rate": None}))
    assert make_config(probe, read_values(tmp_path / "all")).probe.rate is None


def test_a_word_without_a_flag_is_the_positional(probe):
    assert read_command_line([probe, "--rate", "2", "hello"]).config.probe.word == "hello"
