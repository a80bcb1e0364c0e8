"""Saved states: exactly what was saved, found again, and refused where torn or of other settings."""

import json
import logging
from pathlib import Path

import pytest
import torch

from backend.checkpoints.manifest import MANIFEST, check_resume, find_state
from backend.checkpoints.state import State, load_state, save_state
from backend.config.config import make_config
from backend.faults import Faults
from backend.optimizers.build import build_optimizer
from backend.optimizers.options import OptimizerOptions
from backend.optimizers.schedules import build_schedule


class Group:
    """Parameters as a method gives them."""

    name = "unet"
    learning_rate = 1e-2

    def __init__(self, *parameters):
        self.parameters = list(parameters)


class Training:
    """A small regression whose data at a step depends only on the step."""

    def __init__(self, options):
        generator = torch.Generator().manual_seed(0)
        self.weights = {name: torch.nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in (("small", (3, 5)), ("large", (96, 64)))}
        self.optimizer = build_optimizer(options, [Group(*self.weights.values())])
        self.schedule = build_schedule(options, self.optimizer, 10)

    def steps(self, first, last):
        for step in range(first, last + 1):
            generator = torch.Generator().manual_seed(step)
            for weight in self.weights.values():
                weight.grad = weight.detach() - torch.randn(weight.shape, generator=generator)
            self.optimizer.step()
            self.schedule.step()

    def state(self, step):
        return State(step, 1, {name: weight.detach() for name, weight in self.weights.items()}, self.optimizer.state_dict(), self.schedule.state_dict())

    def restore(self, state):
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(state.weights[name])
        self.optimizer.load_state_dict(state.optimizer)
        self.schedule.load_state_dict(state.schedule)


@pytest.mark.parametrize("kind,schedule", [
    ("AdamW8bit", "cosine"), ("AdamW", "linear"), ("AdamW", "cosine"), ("AdamW", "cosine_with_restarts"), ("AdamW", "polynomial"),
    ("AdamW", "constant"), ("AdamW", "constant_with_warmup")])
def test_training_from_a_saved_state_ends_with_the_same_bytes(tmp_path, kind, schedule):
    options = OptimizerOptions(optimizer_type=kind, lr_scheduler=schedule, lr_warmup_steps=2, learning_rate=1e-2)
    whole = Training(options)
    whole.steps(1, 8)
    first = Training(options)
    first.steps(1, 3)
    save_state(tmp_path / "cat-state", first.state(3))
    second = Training(options)
    state = load_state(tmp_path / "cat-state")
    second.restore(state)
    second.steps(state.step + 1, 8)
    for name, weight in whole.weights.items():
        assert torch.equal(second.weights[name], weight), name
    assert second.optimizer.param_groups[0]["lr"] == whole.optimizer.param_groups[0]["lr"]


def small_state(step=1, **settings):
    """A state of next to nothing."""
    return State(step, 1, {"a": torch.tensor([1.5, step])}, {"momentum": torch.ones(2)}, {"last_epoch": step}, {"fingerprint": "abc"}, settings)


def test_a_state_holds_all_it_was_given(tmp_path):
    save_state(tmp_path / "cat-state", small_state(7, network_dim=4, network_args=["a=b"], unet_lr=None, seed=2**63 - 1))
    state = load_state(tmp_path / "cat-state")
    assert (state.step, state.epoch) == (7, 1)
    assert torch.equal(state.weights["a"], torch.tensor([1.5, 7.0]))
    assert torch.equal(state.optimizer["momentum"], torch.ones(2)) and state.schedule == {"last_epoch": 7}
    assert state.extras == {"fingerprint": "abc"}
    assert state.settings == {"network_dim": 4, "network_args": ["a=b"], "unet_lr": None, "seed": 2**63 - 1}


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what is mapped")
def test_a_loaded_state_holds_on_to_none_of_its_files(tmp_path):
    save_state(tmp_path / "s-state", State(1, 1, {"weight": torch.ones(100_000)}, {"moment": torch.ones(100_000)}, {}))
    state = load_state(tmp_path / "s-state")
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    assert state.weights["weight"].sum() == 100_000


def test_a_state_with_a_weight_that_is_not_finite_is_not_written(tmp_path):
    broken = small_state()
    broken.weights["a"][0] = float("nan")
    with pytest.raises(Faults, match="holds NaN"):
        save_state(tmp_path / "cat-state", broken)
    assert not list(tmp_path.iterdir())


def test_the_newest_of_several_states_is_the_one_of_the_highest_step(tmp_path):
    for step, name in ((30, "cat-000003-state"), (20, "rolling-state"), (9, "cat-step00000009-state")):
        save_state(tmp_path / name, small_state(step))
    (tmp_path / "cat-000099-state.txt").write_text("not a folder")
    assert find_state(tmp_path) == tmp_path / "cat-000003-state"
    assert find_state(str(tmp_path / "rolling-state")) == tmp_path / "rolling-state"


def test_of_several_runs_in_one_folder_the_own_states_come_first(tmp_path):
    for step, name in ((30, "dog-000003-state"), (9, "cat-step00000009-state"), (40, "cat-two-state")):
        save_state(tmp_path / name, small_state(step))
    assert find_state(tmp_path, "cat") == tmp_path / "cat-step00000009-state"
    assert find_state(tmp_path, "bird") == tmp_path / "cat-two-state"


def test_of_two_states_of_one_step_the_later_one_is_taken(tmp_path):
    for name, saved_at in (("a-state", 300.0), ("b-state", 100.0), ("c-state", 200.0)):
        save_state(tmp_path / name, small_state(5))
        manifest = json.loads((tmp_path / name / MANIFEST).read_text())
        (tmp_path / name / MANIFEST).write_text(json.dumps({**manifest, "saved_at": saved_at}))
    assert find_state(tmp_path) == tmp_path / "a-state"


def truncate(state):
    content = (state / "optimizer.pt").read_bytes()
    (state / "optimizer.pt").write_bytes(content[:-10])


def flip(state):
    content = bytearray((state / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (state / "weights.safetensors").write_bytes(content)


def remove_file(state):
    (state / "schedule.pt").unlink()


def remove_manifest(state):
    (state / MANIFEST).unlink()


def tear_manifest(state):
    (state / MANIFEST).write_text((state / MANIFEST).read_text()[:40])


def age(state):
    manifest = json.loads((state / MANIFEST).read_text())
    (state / MANIFEST).write_text(json.dumps({**manifest, "version": 99}))


DAMAGES = [
    (truncate, "is not whole: optimizer.pt has"), (flip, "is damaged: weights.safetensors"), (remove_file, "is not whole: schedule.pt is missing"),
    (remove_manifest, "is no state"), (tear_manifest, "manifest.json cannot be read"), (age, "is a state of version 99")]


@pytest.mark.parametrize("damage,said", DAMAGES)
def test_a_state_that_is_not_as_written_is_refused_and_the_file_named(tmp_path, damage, said):
    save_state(tmp_path / "cat-state", small_state())
    damage(tmp_path / "cat-state")
    for read in (find_state, load_state):
        with pytest.raises(Faults, match=said):
            read(tmp_path / "cat-state")


@pytest.mark.parametrize("damage,said", DAMAGES)
def test_a_damaged_newest_state_is_passed_over_with_a_warning(tmp_path, damage, said, caplog):
    save_state(tmp_path / "cat-000001-state", small_state(1))
    save_state(tmp_path / "cat-000002-state", small_state(2))
    damage(tmp_path / "cat-000002-state")
    with caplog.at_level(logging.WARNING, "darkroom"):
        assert find_state(tmp_path) == tmp_path / "cat-000001-state"
    if damage not in (remove_manifest, tear_manifest):  # these no longer tell that they were the newest
        assert said in caplog.text


def test_places_without_a_state_are_refused_in_words(tmp_path):
    with pytest.raises(Faults, match="is not there"):
        find_state(tmp_path / "nowhere")
    with pytest.raises(Faults, match="holds no state"):
        find_state(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(Faults, match="is a file, not a state folder"):
        find_state(tmp_path / "file")


def test_a_state_that_could_not_be_finished_is_never_found(tmp_path):
    with pytest.raises(TypeError):
        save_state(tmp_path / "cat-state", small_state(unwritable=object()))
    (tmp_path / ".unfinished-1-cat-state").mkdir()
    with pytest.raises(Faults, match="holds no state"):
        find_state(tmp_path)


def config(tmp_path, **values):
    """A config that would go on from the state in tmp_path."""
    return make_config("train_network", {"resume": str(tmp_path), **values})


def test_a_state_of_other_settings_is_refused_naming_each(tmp_path):
    made = make_config("train_network", {"network_dim": 8, "seed": 5, "learning_rate": 1e-4, "network_args": ["conv_dim=2"]})
    save_state(tmp_path / "cat-state", small_state(3, **made.values()))
    said = check_resume(config(tmp_path, network_dim=4, seed=5, learning_rate=1e-4))
    assert [message.split(". ")[0] for message in said] == [
        "resume: the state was made with network_dim 8, now 4", "resume: the state was made with network_args conv_dim=2, now not set"]


def test_options_that_change_nothing_of_the_result_may_be_others(tmp_path):
    made = make_config("train_network", {"seed": 5, "max_train_steps": 10, "output_name": "cat", "output_dir": "a", "network_weights": "start.safetensors"})
    save_state(tmp_path / "cat-state", small_state(3, **made.values()))
    assert check_resume(config(tmp_path, max_train_steps=20, output_name="dog", output_dir="b", save_state=True)) == []


def test_no_seed_given_means_the_state_s_and_another_seed_is_refused(tmp_path):
    save_state(tmp_path / "cat-state", small_state(3, **{**make_config("train_network", {}).values(), "seed": 5}))
    assert check_resume(config(tmp_path)) == []
    assert check_resume(config(tmp_path, seed=6))[0].startswith("resume: the state was made with seed 5, now 6.")


def test_without_resume_there_is_nothing_to_say(tmp_path):
    assert check_resume(make_config("train_network", {})) == []
    assert "is not there" in check_resume(config(tmp_path / "gone"))[0]
