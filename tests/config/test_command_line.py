"""The command line, as a person uses it: in a process of its own where exit codes and output count."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from backend.config.commands import COMMANDS
from backend.config.command_line import read_command_line
from backend.faults import Faults

ROOT = Path(__file__).resolve().parents[2]
TRAIN = "train_network"


def config(*words):
    return read_command_line([TRAIN, *words]).config


def fault(*words):
    """What is wrong with a command line, told at once or kept to be told with what is wrong in the files."""
    try:
        kept = read_command_line([TRAIN, *words]).faults
    except Faults as raised:
        kept = raised.messages
    assert kept, "nothing was found wrong"
    return "\n".join(kept)


def ran(*words, cwd=ROOT):
    return subprocess.run([sys.executable, "-m", "backend", *words], capture_output=True, text=True, cwd=cwd, env={"PYTHONPATH": str(ROOT), "PATH": ""})


def test_flags_are_read_as_their_options():
    read = config("--learning_rate", "1e-4", "--network_args", "conv_dim=4", "conv_alpha=1", "--resolution", "128,64", "--flip_aug", "--no_sdpa", "--seed=7")
    assert (read.optimizer.learning_rate, read.network.network_args, read.data.resolution) == (1e-4, ["conv_dim=4", "conv_alpha=1"], [128, 64])
    assert (read.data.flip_aug, read.training.sdpa, read.training.seed) == (True, False, 7)


def test_a_size_may_be_two_words():
    assert config("--resolution", "128", "64").data.resolution == [128, 64]


@pytest.mark.parametrize("words, on", [(["--flip_aug"], True), (["--flip_aug=false"], False), (["--flip_aug", "false"], False), (["--no_flip_aug"], False)])
def test_a_switch_is_written_in_four_ways(words, on):
    assert config("--flip_aug", *words).data.flip_aug is on


def test_a_value_with_dashes_is_joined():
    assert config("--training_comment=--x").saving.training_comment == "--x"


def test_a_shortened_name_is_told_and_not_guessed():
    assert fault("--learning", "1") == "learning is not an option. Did you mean learning_rate?"


def test_a_switch_of_sd_scripts_that_begins_with_no_is_not_taken_apart():
    assert "no_token_padding is an option of sd-scripts, but not of train_network" in fault("--no_token_padding")
    assert config("--no_half_vae").training.sdpa is True
    assert config("--no_metadata").saving.no_metadata is True
    assert config("--no_no_metadata").saving.no_metadata is False


def test_words_without_a_flag_and_flags_without_a_value_are_told_together():
    told = fault("stray", "--seed", "--config_file")
    assert '"stray" belongs to no option' in told and "seed needs a value: --seed 7." in told and "config_file needs a value" in told


@pytest.mark.parametrize("name", ["config_file", "preset"])
def test_an_empty_source_is_told_and_not_passed_over(name):
    assert f"{name} needs a value" in fault(f"--{name}=")


def test_an_unknown_command_gets_the_nearest():
    with pytest.raises(Faults, match="train_netwrk is not a command. Did you mean train_network"):
        read_command_line(["train_netwrk"])


def test_flags_win_over_the_file_and_the_file_over_the_preset(tmp_path):
    (tmp_path / "my.toml").write_text("network_dim = 3\nmax_train_steps = 5\nflip_aug = true\n")
    read = config("--preset", "lora/demo", "--config_file", str(tmp_path / "my"), "--max_train_steps", "9", "--no_flip_aug")
    assert (read.network.network_dim, read.training.max_train_steps, read.data.flip_aug, read.data.enable_bucket) == (3, 9, False, True)


def test_faults_of_all_sources_are_told_together(tmp_path):
    (tmp_path / "my.toml").write_text("network_dimm = 3\n")
    told = fault("--preset", "lora/dmo", "--config_file", str(tmp_path / "my"), "--seed", "x")
    assert "Did you mean lora/demo?" in told and "network_dimm in" in told and 'seed is "x"' in told


def test_the_whole_config_is_written_and_not_replaced(tmp_path):
    first = ran(TRAIN, "--seed", "5", "--config_file", "mine", "--output_config", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    sections = tomllib.loads((tmp_path / "mine.toml").read_text())
    assert sections["training"]["seed"] == 5 and sections["network"]["network_dim"] == 4
    second = ran(TRAIN, "--seed", "6", "--config_file", "mine", "--output_config", cwd=tmp_path)
    assert second.returncode == 1 and "already exists" in second.stderr
    other = ran(TRAIN, "--seed", "6", "--config_file", "mine", "--output_config", "other.toml", cwd=tmp_path)
    assert other.returncode == 0 and tomllib.loads((tmp_path / "other.toml").read_text())["training"]["seed"] == 6


def test_a_bad_line_is_told_without_a_traceback_and_exits_with_2():
    told = ran(TRAIN, "--learing_rate", "1", "--seed", "-1")
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr.splitlines()[:2] == [
        "- learing_rate is not an option. Did you mean learning_rate?", "- seed is -1, but must be between 0 and 9223372036854775807."]


@pytest.mark.parametrize("words", [[], ["--help"], ["help"]])
def test_the_commands_are_listed(words):
    told = ran(*words)
    assert told.returncode == 0 and all(name in told.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_names_every_option_without_torch_and_at_once(command):
    script = (f"import sys, time; began = time.process_time(); from backend.__main__ import main; main(['{command}', '--help']); "
              "print('SECONDS', time.process_time() - began, 'torch' in sys.modules or 'transformers' in sys.modules)")
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    *_, seconds, heavy = told.stdout.split()
    assert heavy == "False" and float(seconds) < 0.5
    for group in COMMANDS[command].groups:
        assert all(f"--{name}" in told.stdout or f"--no_{name}" in told.stdout for name in group.model_fields)
