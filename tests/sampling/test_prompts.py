"""Prompt files are read as written, and what is wrong in them is told with its line."""

import pytest

from backend.faults import Faults
from backend.sampling.prompts import Prompt, read_prompts


def read(tmp_path, text, name="prompts.txt"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return read_prompts(path)


def faults_of(tmp_path, text, name="prompts.txt"):
    with pytest.raises(Faults) as caught:
        read(tmp_path, text, name)
    return caught.value.messages


LINES = {
    "a cat": Prompt("a cat"),
    "1girl, in white shirts --n low quality, worst quality --w 768 --h 832 --d 1 --l 5.5 --s 28":
        Prompt("1girl, in white shirts", "low quality, worst quality", 768, 832, 1, 28, 5.5),
    "a cat --S 5 --W 128 --SS K_Euler_A": Prompt("a cat", width=128, steps=5, sampler="k_euler_a"),
    "a cat   --d   7  ": Prompt("a cat", seed=7),
    "a cat\t--d 7": Prompt("a cat", seed=7),
    "h 5 tall tower": Prompt("h 5 tall tower"),
    "n neko girl --w 128": Prompt("n neko girl", width=128),
    "h 96": Prompt("h 96"),
    "a -- b": Prompt("a -- b"),
    "well--known --d 3": Prompt("well--known", seed=3),
    "a cat --n bad -- worse, ill--made --d 3": Prompt("a cat", "bad -- worse, ill--made", seed=3),
    "a cat --n h 5, d 4": Prompt("a cat", "h 5, d 4"),
    "a --- b --5 c": Prompt("a --- b --5 c"),
    "a cat --n --d 3": Prompt("a cat", seed=3),
    "--w 128 --d 1": Prompt("", width=128, seed=1),
    "a cat --w 515 --h 71": Prompt("a cat", width=512, height=64),
    "a cat --l 1": Prompt("a cat", scale=1.0),
    "a cat --s 1000": Prompt("a cat", steps=1000),
    "猫 --n 犬": Prompt("猫", "犬"),
}


@pytest.mark.parametrize("line", LINES)
def test_a_line_gives_its_own_words_and_the_options_after_them(tmp_path, line):
    assert read(tmp_path, line + "\n") == [LINES[line]]


def test_blank_lines_and_comments_are_skipped(tmp_path):
    assert read(tmp_path, "\ufeff# one\r\na cat\r\n\r\n   # two\n  a dog --d 2\n") == [Prompt("a cat"), Prompt("a dog", seed=2)]


FAULTS = {
    "a cat --w 63": "line 1: --w is 63, but must be a whole number of pixels from 64 to 8192.",
    "a cat --h 9000": "line 1: --h is 9000, but must be",
    "a cat --w wide": "line 1: --w is wide, but must be",
    "a cat --s 0": "line 1: --s is 0, but must be a whole number from 1 to 1000.",
    "a cat --s 1001": "line 1: --s is 1001, but",
    "a cat --s 2.5": "line 1: --s is 2.5, but",
    "a cat --d -1": "line 1: --d is -1, but must be a whole number of 0 or more.",
    "a cat --d 9223372036854775808": "line 1: --d is 9223372036854775808, but",
    "a cat --l nan": "line 1: --l is nan, but must be a number of 0 or more.",
    "a cat --l -2": "line 1: --l is -2, but",
    "a cat --ss eulre": "line 1: --ss is eulre, but must be one of ddim,",
    "a cat --d": "line 1: --d has no value",
    "a cat --d 1 --d 2": "line 1: --d is given twice",
    "a cat --x 5": "line 1: --x is not an option of a prompt.",
    "a cat --w512": "Did you mean --w 512?",
    "a cat --g 3.5": "line 1: --g (guidance of distilled models) is known to sd-scripts, but not built here yet",
    "a cat --cn a.png": "--cn (a control image)",
    "a cat --ctr 0.5": "--ctr (",
    "a cat --rcfg 0.5": "--rcfg (",
    "a cat --fs 3": "--fs (",
}


@pytest.mark.parametrize("line", FAULTS)
def test_what_cannot_be_drawn_is_told_with_its_line(tmp_path, line):
    messages = faults_of(tmp_path, line)
    assert len(messages) == 1
    assert FAULTS[line] in messages[0]
    assert "prompts.txt" in messages[0]


def test_all_bad_lines_are_told_at_once(tmp_path):
    messages = faults_of(tmp_path, "a --w 1 --s 0\nfine\n\nb --q 1\n")
    assert ["line 1" in messages[0], "line 1" in messages[1], "line 4" in messages[2], len(messages)] == [True, True, True, 3]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(Faults, match="nothing.txt does not exist"):
        read_prompts(tmp_path / "nothing.txt")


def test_a_folder_is_no_prompt_file(tmp_path):
    with pytest.raises(Faults, match="cannot be read"):
        read_prompts(tmp_path)


def test_a_file_without_prompts_is_refused(tmp_path):
    assert "holds no prompt" in faults_of(tmp_path, "# only this\n\n")[0]


def test_a_file_in_another_encoding_is_refused_with_the_byte(tmp_path):
    message = faults_of(tmp_path, b"a cat\ncaf\xe9\n")[0]
    assert "byte 10 of the file, in line 2, is 0xe9" in message


TOML = """
[prompt]
negative_prompt = "blurry"
width = 128
[[prompt.subset]]
prompt = "h 5 tall tower --d 4"
height = 96
sample_steps = 7
[[prompt.subset]]
prompt = "a dog"
width = 256
negative_prompt = ""
scale = 3
seed = 5
sample_sampler = "heun"
"""


def test_a_toml_file_gives_its_subsets_over_its_defaults(tmp_path):
    assert read(tmp_path, TOML, "p.toml") == [
        Prompt("h 5 tall tower --d 4", "blurry", 128, 96, steps=7),
        Prompt("a dog", "", 256, 512, seed=5, scale=3.0, sampler="heun")]


def test_a_json_file_gives_objects_and_lines(tmp_path):
    text = '[{"prompt": "a cat", "seed": 3, "width": 130}, "a dog --s 4"]'
    assert read(tmp_path, text, "p.json") == [Prompt("a cat", seed=3, width=128), Prompt("a dog", steps=4)]


def test_keys_are_checked_as_letters_are(tmp_path):
    text = '[{"prompt": 5, "widht": 512, "flow_shift": 3, "seed": -1, "height": true}]'
    messages = "\n".join(faults_of(tmp_path, text, "p.json"))
    assert "prompt is 5" in messages
    assert "widht is not an option of a prompt. Did you mean width?" in messages
    assert "flow_shift (the time shift of flow models) is known to sd-scripts" in messages
    assert "seed is -1, but must be" in messages
    assert "height is True, but must be" in messages


@pytest.mark.parametrize("name, text", [("p.json", "{"), ("p.json", '{"prompt": "a"}'), ("p.json", "[1]"), ("p.toml", "["), ("p.toml", "a = 1")])
def test_a_broken_toml_or_json_file_is_refused(tmp_path, name, text):
    assert name in faults_of(tmp_path, text, name)[0]
