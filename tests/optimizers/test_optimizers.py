"""Optimizers as the options name them, and what is refused before anything is loaded."""

import pytest
import torch

from backend.faults import Faults
from backend.optimizers.build import build_optimizer, optimizer_label
from backend.optimizers.checks import check_optimizer, read_optimizer_args
from backend.optimizers.options import OptimizerOptions


class Group:
    """Parameters as a method gives them."""

    def __init__(self, name, learning_rate, *shape):
        self.name, self.learning_rate = name, learning_rate
        self.parameters = [torch.nn.Parameter(torch.ones(shape))]


def groups():
    return [Group("text_encoder", 1e-3, 4, 4), Group("unet", 1e-2, 80, 80)]


def test_every_group_has_its_own_learning_rate_and_name():
    for kind in ("AdamW", "AdamW8bit"):
        optimizer = build_optimizer(OptimizerOptions(optimizer_type=kind, learning_rate=5.0), groups())
        assert [(group["name"], group["lr"]) for group in optimizer.param_groups] == [("text_encoder", 1e-3), ("unet", 1e-2)]


def test_adamw_moves_weights_by_its_formula():
    group = Group("unet", 0.1, 2)
    options = OptimizerOptions(optimizer_args=["betas=.5,.25", "weight_decay=0.2", "eps=1e-3"])
    optimizer = build_optimizer(options, [group])
    w, m, v = 1.0, 0.0, 0.0
    for step, gradient in enumerate((3.0, -1.0), start=1):
        group.parameters[0].grad = torch.full((2,), gradient)
        optimizer.step()
        # Loshchilov & Hutter 2019, algorithm 2, decay scaled by the learning rate.
        m, v = 0.5 * m + 0.5 * gradient, 0.25 * v + 0.75 * gradient**2
        w = w - 0.1 * 0.2 * w - 0.1 * (m / (1 - 0.5**step)) / ((v / (1 - 0.25**step)) ** 0.5 + 1e-3)
    assert group.parameters[0].tolist() == pytest.approx([w, w])


def test_adamw8bit_keeps_large_tensors_memory_in_8_bits():
    made = groups()
    optimizer = build_optimizer(OptimizerOptions(optimizer_type="AdamW8bit"), made)
    for group in made:
        group.parameters[0].grad = torch.ones_like(group.parameters[0])
    optimizer.step()
    small, large = (optimizer.state[group.parameters[0]]["state1"].dtype for group in made)
    assert (small, large) == (torch.float32, torch.uint8)


def test_arguments_are_read_as_python_writes_them():
    options = OptimizerOptions(optimizer_args=["betas=.9,.99", "weight_decay=1e-2", "amsgrad=True", " eps = 1e-6 "])
    assert read_optimizer_args(options) == {"betas": (0.9, 0.99), "weight_decay": 0.01, "amsgrad": True, "eps": 1e-6}
    assert read_optimizer_args(OptimizerOptions(optimizer_args=["betas=(0.9, 0.99)"])) == {"betas": (0.9, 0.99)}


@pytest.mark.parametrize("written,said", [
    ("weight_decay", "must be key=value"),
    ("weight_decay=0.1=2", "must be key=value"),
    ("weight_decay=", "must be key=value"),
    ("weigth_decay=0.1", "is not known for AdamW. Did you mean weight_decay?"),
    ("weight_decay=much", "weight_decay is much, but must be a number, 0 or more"),
    ("weight_decay=-1", "must be a number, 0 or more"),
    ("weight_decay=True", "must be a number, 0 or more"),
    ("betas=0.9", "must be two numbers"),
    ("betas=.9,1", "must be two numbers"),
    ("amsgrad=1", "must be True or False"),
    ("lr=1e-4", "lr is set by learning_rate"),
    ("eps=__import__('os')", "must be a number"),
])
def test_wrong_arguments_are_told(written, said):
    assert said in check_optimizer(OptimizerOptions(optimizer_args=[written]))[0]


def test_all_wrong_arguments_are_told_at_once():
    assert len(check_optimizer(OptimizerOptions(optimizer_args=["a=1", "weight_decay=x", "eps=1", "eps=2"]))) == 3


def test_arguments_belong_to_their_optimizer():
    assert check_optimizer(OptimizerOptions(optimizer_type="AdamW8bit", optimizer_args=["min_8bit_size=1024"])) == []
    assert "not known for AdamW8bit" in check_optimizer(OptimizerOptions(optimizer_type="AdamW8bit", optimizer_args=["amsgrad=True"]))[0]


def test_arguments_that_the_optimizer_refuses_together_are_told_in_words():
    with pytest.raises(Faults, match="AdamW refuses fused=True foreach=True"):
        build_optimizer(OptimizerOptions(optimizer_args=["fused=True", "foreach=True"]), groups())


def test_a_polynomial_schedule_needs_a_learning_rate_to_fall_from():
    assert "learning_rate must be more" in check_optimizer(OptimizerOptions(lr_scheduler="polynomial", learning_rate=0.0))[0]
    assert check_optimizer(OptimizerOptions(lr_scheduler="polynomial", learning_rate=1e-6)) == []


def test_the_label_names_class_and_arguments():
    options = OptimizerOptions(optimizer_args=["weight_decay=0.1", "betas=.9,.99"])
    assert optimizer_label(options, build_optimizer(options, groups())) == "torch.optim.adamw.AdamW(weight_decay=0.1,betas=(0.9, 0.99))"
    assert optimizer_label(OptimizerOptions(), build_optimizer(OptimizerOptions(), groups())) == "torch.optim.adamw.AdamW"
