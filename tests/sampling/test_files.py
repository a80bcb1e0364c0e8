"""Sample files are named by place and say how they were drawn, so that other programs can read it."""

import json
import re
from datetime import datetime

from PIL import Image

from backend.sampling.files import Drawn, parameters, sample_name, save_sample
from backend.sampling.prompts import Prompt

NOW = datetime(2026, 11, 21, 9, 30, 5)
PROMPT = Prompt("a cat, (red:1.2)", "blurry, dark", 128, 64, None, 12, 5.0)
# How AUTOMATIC1111's web UI takes the last line apart.
PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


def drawn(**changes):
    facts = {"prompt": PROMPT, "index": 1, "sampler": "k_euler_a", "seed": 42, "step": 123, "epoch": 2, "by_epoch": False, "output_name": "cat"}
    return Drawn(**{**facts, **changes})


def saved_pairs(tmp_path, **changes):
    path = save_sample(Image.new("RGB", (8, 8)), tmp_path, drawn(**changes), NOW)
    text = Image.open(path).text["parameters"]
    return text.split("\n"), {key: json.loads(value) if value[:1] == '"' else value for key, value in PAIR.findall(text.split("\n")[-1])}


def test_a_sample_is_named_by_step_or_epoch_with_prompt_time_and_seed():
    assert sample_name(drawn(), NOW) == "cat_000123_01_20261121093005_42.png"
    assert sample_name(drawn(by_epoch=True), NOW) == "cat_e000002_01_20261121093005_42.png"


def test_the_prompts_own_seed_is_named():
    assert sample_name(drawn(prompt=Prompt("a", seed=7)), NOW).endswith("_7.png")


def test_a_sample_says_how_it_was_drawn_as_other_programs_read_it(tmp_path):
    lines, pairs = saved_pairs(tmp_path, weights_hash="0a1b2c3d")
    assert lines[:2] == ["a cat, (red:1.2)", "Negative prompt: blurry, dark"]
    assert pairs == {
        "Steps": "12", "Sampler": "Euler a", "CFG scale": "5", "Seed": "42", "Size": "128x64", "Model hash": "0a1b2c3d", "Model": "cat",
        "Trained steps": "123", "Trained epochs": "2"}


def test_what_is_not_known_is_left_out(tmp_path):
    lines, pairs = saved_pairs(tmp_path, prompt=Prompt("猫", seed=0, sampler="dpmsolver++"))
    assert lines[0] == "猫" and len(lines) == 2
    assert (pairs["Seed"], pairs["Sampler"], "Model hash" in pairs) == ("0", "DPM++ 2M", False)


def test_a_name_with_odd_signs_is_read_back_whole():
    name = 'my, cat: "two"'
    last = parameters(drawn(output_name=name)).split("\n")[-1]
    assert json.loads(dict(PAIR.findall(last))["Model"]) == name


def test_only_whole_pictures_are_left_in_the_folder(tmp_path):
    saved_pairs(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["cat_000123_01_20261121093005_42.png"]
