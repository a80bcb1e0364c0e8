"""One LoRA beside one layer, against the formula in numpy."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from backend.methods.network.lora import Dropouts, LoRA

NONE = Dropouts()


def beside(layer, rank=2, alpha=1.0, dropouts=NONE, seed=3, filled=True):
    """A LoRA with random factors, hooked to a layer."""
    lora = LoRA(layer, rank, alpha, dropouts, seed)
    layer.register_forward_hook(lora.change)
    if filled:
        nn.init.normal_(lora.lora_up.weight, generator=torch.Generator().manual_seed(5))
    return lora


def numpy_conv(x, weight, stride, padding):
    """A convolution by its definition. x: [B, C, H, W]; weight: [O, C, k, k]."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    kernel = weight.shape[2]
    rows = range(0, x.shape[2] - kernel + 1, stride)
    columns = range(0, x.shape[3] - kernel + 1, stride)
    windows = np.array([[x[:, :, r:r + kernel, c:c + kernel] for c in columns] for r in rows])
    return np.einsum("hwbckl,ockl->bohw", windows, weight)


def test_a_fresh_lora_changes_nothing():
    layer = nn.Linear(6, 5)
    x = torch.randn(2, 3, 6)
    plain = layer(x)
    beside(layer, filled=False)
    assert torch.equal(layer(x), plain)


@pytest.mark.parametrize("shape", [(4, 6), (2, 3, 6)])
def test_a_linear_change_is_up_times_down_times_alpha_over_rank(shape):
    layer = nn.Linear(6, 5)
    x = torch.randn(shape)
    plain = layer(x).detach().numpy()
    lora = beside(layer, rank=2, alpha=3.0)
    down, up = lora.lora_down.weight.detach().numpy(), lora.lora_up.weight.detach().numpy()
    assert down.shape == (2, 6) and up.shape == (5, 2)
    expected = plain + x.numpy() @ (up @ down).T * 3.0 / 2
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("kernel,stride,padding", [(1, 1, 0), (3, 1, 1), (3, 2, 1)])
def test_a_convolution_change_is_a_convolution_with_the_product_of_the_factors(kernel, stride, padding):
    layer = nn.Conv2d(3, 4, kernel, stride=stride, padding=padding)
    x = torch.randn(2, 3, 6, 8)
    lora = beside(layer, rank=2, alpha=0.5)
    down, up = lora.lora_down.weight.detach().numpy(), lora.lora_up.weight.detach().numpy()
    assert down.shape == (2, 3, kernel, kernel) and up.shape == (4, 2, 1, 1)
    merged = layer.weight.detach().numpy() + np.einsum("or,rckl->ockl", up[:, :, 0, 0], down) * 0.5 / 2
    expected = numpy_conv(x.numpy(), merged, stride, padding) + layer.bias.detach().numpy()[None, :, None, None]
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, atol=1e-5)


def test_alpha_0_means_the_rank():
    lora = LoRA(nn.Linear(6, 5), 4, 0.0, NONE, 0)
    assert lora.alpha.item() == 4.0 and lora.scale == 1.0


def test_first_weights_are_kaiming_uniform_and_come_from_the_seed_alone():
    layer = nn.Linear(1000, 5)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = LoRA(layer, 16, 1.0, NONE, seed=7)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    again, other = LoRA(layer, 16, 1.0, NONE, seed=7), LoRA(layer, 16, 1.0, NONE, seed=8)
    assert torch.equal(first.lora_down.weight, again.lora_down.weight)
    assert not torch.equal(first.lora_down.weight, other.lora_down.weight)
    # He et al. 2015 with a = sqrt(5): uniform in ±sqrt(6 / ((1 + 5) * fan_in)), so with the deviation bound / sqrt(3).
    bound = 1 / math.sqrt(1000)
    assert first.lora_down.weight.abs().max() <= bound
    assert first.lora_down.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)
    assert not first.lora_up.weight.any()


@pytest.mark.parametrize("autocast", [True, False])
def test_beside_a_bf16_layer_the_factors_and_their_gradients_stay_float32(autocast):
    layer = nn.Linear(6, 5).to(torch.bfloat16).requires_grad_(False)
    x = torch.randn(4, 6).to(torch.bfloat16)
    plain = layer(x).float()
    lora = beside(layer)
    expected = plain + x.float() @ (lora.lora_up.weight @ lora.lora_down.weight).T * lora.scale
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), expected, atol=0.05, rtol=0.02)
    y.float().sum().backward()
    assert lora.lora_down.weight.grad.dtype == torch.float32 and lora.lora_down.weight.grad.any()


def identity(dropouts):
    """A layer of zeros with a LoRA that hands its input through, so that only dropout shows."""
    layer = nn.Linear(3, 3, bias=False)
    nn.init.zeros_(layer.weight)
    lora = beside(layer, rank=3, alpha=3.0, dropouts=dropouts)
    nn.init.eye_(lora.lora_down.weight)
    nn.init.eye_(lora.lora_up.weight)
    return layer, lora


def test_rank_dropout_leaves_out_whole_ranks_of_a_sample_and_makes_up_for_them():
    torch.manual_seed(0)
    layer, _ = identity(Dropouts(ranks=0.25))
    y = layer(torch.ones(2000, 4, 3))
    assert torch.equal(y, y[:, :1].expand_as(y)), "all tokens of a sample share the draw"
    assert sorted(y.unique().tolist()) == pytest.approx([0.0, 1 / 0.75])
    assert (y[:, 0] == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert not torch.equal(y[:, 0, 0] == 0, y[:, 0, 1] == 0), "ranks are drawn apart"


def test_rank_dropout_of_a_convolution_spreads_over_the_picture():
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 2, 1, bias=False)
    nn.init.zeros_(layer.weight)
    lora = beside(layer, rank=2, alpha=2.0, dropouts=Dropouts(ranks=0.5))
    with torch.no_grad():
        lora.lora_down.weight.copy_(torch.eye(2)[:, :, None, None])
        lora.lora_up.weight.copy_(torch.eye(2)[:, :, None, None])
    y = layer(torch.ones(500, 2, 2, 3))
    assert torch.equal(y, y[:, :, :1, :1].expand_as(y))
    assert set(y.unique().tolist()) == {0.0, 2.0}


def test_dropout_of_values_comes_before_that_of_ranks_and_both_make_up_for_what_they_leave_out():
    torch.manual_seed(0)
    layer, _ = identity(Dropouts(values=0.5, ranks=0.2))
    y = layer(torch.ones(2000, 3))
    assert sorted(y.unique().tolist()) == pytest.approx([0.0, 1 / 0.5 / 0.8])
    assert (y != 0).float().mean().item() == pytest.approx(0.5 * 0.8, abs=0.03)


def test_module_dropout_leaves_out_that_share_of_calls_whole():
    torch.manual_seed(0)
    layer, _ = identity(Dropouts(modules=0.3))
    sums = [layer(torch.ones(2, 3)).sum().item() for _ in range(1000)]
    assert set(sums) == {0.0, 6.0}
    assert sums.count(0.0) / 1000 == pytest.approx(0.3, abs=0.05)


def test_nothing_is_left_out_when_not_training():
    layer, lora = identity(Dropouts(0.5, 0.5, 0.5))
    lora.eval()
    for _ in range(10):
        assert torch.equal(layer(torch.ones(4, 3)), torch.ones(4, 3))


def test_a_switched_off_lora_changes_nothing():
    layer = nn.Linear(6, 5)
    x = torch.randn(2, 6)
    plain = layer(x)
    lora = beside(layer)
    assert not torch.equal(layer(x), plain)
    lora.enabled = False
    assert torch.equal(layer(x), plain)


def test_gradient_checkpointing_gives_the_same_gradients_though_dropout_draws_twice():
    layer = nn.Linear(6, 5).requires_grad_(False)
    lora = beside(layer, dropouts=Dropouts(0.5, 0.3, 0.2))
    x = torch.randn(8, 6, requires_grad=True)
    gradients = []
    for run in (lambda: layer(x), lambda: checkpoint(layer, x, use_reentrant=False)):
        lora.zero_grad()
        torch.manual_seed(1)
        run().square().sum().backward()
        gradients.append(lora.lora_down.weight.grad.clone())
    assert gradients[0].any()
    assert torch.equal(*gradients)


def test_a_convolution_in_groups_is_refused_rather_than_computed_wrongly():
    with pytest.raises(TypeError, match="groups"):
        LoRA(nn.Conv2d(4, 4, 3, groups=2), 2, 1.0, NONE, 0)


def test_a_lora_is_made_on_its_layer_s_device():
    lora = LoRA(nn.Linear(6, 5, device="meta"), 2, 1.0, NONE, 0)
    assert {tensor.device.type for tensor in lora.state_dict().values()} == {"meta"}
