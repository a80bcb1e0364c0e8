"""A run goes on only beside the model that it began with."""

import pytest

from backend.config.config import make_config
from backend.faults import Faults
from backend.runs.beginning import open_folder, refuse_other_run, weights_identity

SETTINGS = {"data": "d", "processes": 1, "base": ["m", None]}


def test_weights_are_known_again_wherever_they_lie(tmp_path):
    (tmp_path / "one.safetensors").write_bytes(bytes(range(256)) * 1000)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "two.ckpt").write_bytes(bytes(range(256)) * 1000)
    assert weights_identity(str(tmp_path / "one.safetensors")) == weights_identity(str(tmp_path / "deep" / "two.ckpt"))
    assert weights_identity(None) is None


@pytest.mark.parametrize("change", [b"x" * 256_000, bytes(range(256)) * 999 + bytes(256), bytes(range(256)) * 1001])
def test_other_weights_are_told_apart(tmp_path, change):
    (tmp_path / "one.safetensors").write_bytes(bytes(range(256)) * 1000)
    (tmp_path / "two.safetensors").write_bytes(change)
    assert weights_identity(str(tmp_path / "one.safetensors")) != weights_identity(str(tmp_path / "two.safetensors"))


def test_the_weights_in_a_folder_count_and_nothing_else_in_it(tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "model.safetensors").write_bytes(b"weights")
    before = weights_identity(str(tmp_path))
    (tmp_path / "README.md").write_text("words")
    assert weights_identity(str(tmp_path)) == before
    (tmp_path / "unet" / "model.safetensors").write_bytes(b"others.")
    assert weights_identity(str(tmp_path)) != before


@pytest.mark.parametrize("found, word", [({"base": ["n", None]}, "model"), ({"base": ["m", "v"]}, "vae"), ({"data": "e"}, "pictures"), ({"processes": 2}, "processes")])
def test_a_state_of_another_run_is_refused(found, word):
    with pytest.raises(Faults) as told:
        refuse_other_run(SETTINGS | found, SETTINGS)
    assert len(told.value.messages) == 1 and word in told.value.messages[0]


def test_a_state_of_this_run_and_no_state_are_not_refused():
    refuse_other_run(dict(SETTINGS), SETTINGS)
    refuse_other_run({}, SETTINGS)


@pytest.mark.parametrize("moved", [False, True])
def test_a_run_goes_on_in_its_own_folder_and_in_no_other_run_s(tmp_path, moved):
    own, other = tmp_path / "own", tmp_path / "other"
    for folder in (own, other):
        folder.mkdir()
        (folder / "events.jsonl").touch()
    state, found = own / "cat-state", {"run_folder": str(tmp_path / "before" if moved else own)}
    assert open_folder(make_config("train_network", {"run_dir": str(own)}), state, found).path == own
    with pytest.raises(Faults, match="another run is already kept there"):
        open_folder(make_config("train_network", {"run_dir": str(other)}), state, found)
    assert [path.name for path in other.iterdir()] == ["events.jsonl"]
