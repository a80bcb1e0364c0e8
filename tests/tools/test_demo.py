"""The demo trains for real and says where everything is."""

import re
from pathlib import Path

import pytest
from PIL import Image

from backend.config.config import make_config
from backend.tools.demo import training_values
from tests.workshop import start


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> tuple[Path, str]:
    """A folder in which the demo has run three steps, and what it said."""
    folder = tmp_path_factory.mktemp("demo")
    log = folder / "said.txt"
    words = ["demo", "--demo_dir", str(folder / "demo"), "--runs_dir", str(folder / "runs"), "--demo_steps", "3"]
    child = start(words, log)
    child.join()
    assert child.exitcode == 0, log.read_text()
    return folder, log.read_text(encoding="utf-8")


def test_the_demo_trains_a_lora_and_draws_before_and_after(ran):
    folder, _ = ran
    run, = (folder / "runs").iterdir()
    assert (run / "demo.safetensors").stat().st_size > 10_000
    names = sorted(path.name for path in (run / "samples").glob("*.png"))
    assert [re.match(r"demo_(\d{6})_(\d\d)_", name).groups() for name in names] == [("000000", "00"), ("000000", "01"), ("000003", "00"), ("000003", "01")]
    assert {Image.open(run / "samples" / name).size for name in names} == {(128, 128), (192, 128)}


def test_every_place_that_the_demo_names_is_there(ran):
    folder, said = ran
    places = re.findall(rf"{re.escape(str(folder))}[^\s,)]*", said.split("The demo is done.")[1])
    assert len(places) >= 5
    assert all(Path(place).exists() for place in places)


def test_the_demo_takes_the_presets_values_and_a_number_of_steps(tmp_path):
    for given, wanted in (({"demo_dir": str(tmp_path)}, 150), ({"demo_dir": str(tmp_path), "demo_steps": 4}, 4)):
        values = training_values(make_config("demo", given).demo)
        config = make_config("train_network", values)
        assert config.training.max_train_steps == wanted
        assert Path(config.model.pretrained_model_name_or_path).is_file()
        assert list(Path(config.data.train_data_dir).glob("10_*/*.png"))
