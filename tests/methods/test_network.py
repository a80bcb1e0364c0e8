"""The network method: which layers it takes, which parts it trains, what it loads and refuses."""

import json

import pytest
import torch

from backend.checkpoints.weights import save_weights
from backend.faults import Faults
from backend.methods.network.arguments import check_network_args
from backend.methods.network.method import NetworkMethod
from backend.methods.network.options import NetworkOptions
from tests.methods.toy import ToyModel, fill


def network(seed=0, learning_rate=1e-4, model=None, **options):
    """A method, its groups, and the model it was put beside."""
    model = model or ToyModel()
    method = NetworkMethod(NetworkOptions(**options), learning_rate, seed)
    return method, method.prepare(model), model


def names(method):
    """The layers that have a LoRA, shortened."""
    return [name.removeprefix("lora_") for name in method.network]


def faults_of(**options):
    """What is said of a network that cannot be made."""
    with pytest.raises(Faults) as caught:
        network(**options)
    return "\n".join(caught.value.messages)


def test_layers_inside_attention_are_taken_by_default():
    method, _, _ = network()
    assert names(method) == ["te_q_proj", "unet_to_q", "unet_proj_in"]


def test_conv_dim_adds_the_others_3x3_with_its_own_rank_and_alpha():
    method, _, _ = network(network_dim=2, network_alpha=2.0, network_args=["conv_dim=3", "conv_alpha=6"])
    assert names(method) == ["te_q_proj", "unet_to_q", "unet_proj_in", "unet_conv", "unet_time"]
    wide, narrow = method.network["lora_unet_conv"], method.network["lora_unet_time"]
    assert (wide.rank, wide.scale) == (3, 2.0)
    assert (narrow.rank, narrow.scale) == (2, 1.0)


def test_conv_alpha_is_1_unless_given_and_0_means_conv_dim():
    assert network(network_args=["conv_dim=4"])[0].network["lora_unet_conv"].scale == 0.25
    assert network(network_args=["conv_dim=4", "conv_alpha=0"])[0].network["lora_unet_conv"].scale == 1.0


def test_groups_come_text_encoders_first_each_with_its_learning_rate():
    _, groups, _ = network(learning_rate=1e-4)
    assert [(group.name, group.part, group.learning_rate) for group in groups] == [("text_encoder", "text_encoder", 1e-4), ("unet", "unet", 1e-4)]
    _, groups, _ = network(unet_lr=3e-4, text_encoder_lr=[5e-5])
    assert [group.learning_rate for group in groups] == [5e-5, 3e-4]
    assert [len(group.parameters) for group in groups] == [2, 4]


def test_only_the_network_is_trained():
    method, groups, model = network()
    assert not any(parameter.requires_grad for part in model.parts.values() for parameter in part.parameters())
    assert all(parameter.requires_grad for group in groups for parameter in group.parameters)


def test_unet_only_makes_no_network_in_the_text_encoder():
    method, groups, _ = network(network_train_unet_only=True)
    assert [group.name for group in groups] == ["unet"] and names(method) == ["unet_to_q", "unet_proj_in"]
    assert not method.trains_text()


def test_text_encoder_only_makes_no_network_in_the_unet():
    method, groups, _ = network(network_train_text_encoder_only=True)
    assert [group.name for group in groups] == ["text_encoder"] and names(method) == ["te_q_proj"]
    assert method.trains_text()


def test_a_part_with_learning_rate_0_is_not_trained_but_stays_in_the_file():
    method, groups, model = network(text_encoder_lr=[0.0])
    assert [group.name for group in groups] == ["unet"]
    assert not method.network["lora_te_q_proj"].lora_up.weight.requires_grad
    assert not method.trains_text()
    assert "lora_te_q_proj.lora_up.weight" in method.weights(model)
    method, groups, _ = network(unet_lr=0.0)
    assert [group.name for group in groups] == ["text_encoder"]


def test_a_network_that_would_train_nothing_is_refused():
    assert "Nothing would be trained" in faults_of(learning_rate=0.0)
    assert "Nothing would be trained" in faults_of(unet_lr=0.0, network_train_unet_only=True)


def test_more_learning_rates_than_text_encoders_are_told_and_the_first_is_used(caplog):
    _, groups, _ = network(text_encoder_lr=[3e-4, 1e-5])
    assert [group.learning_rate for group in groups if group.part == "text_encoder"] == [3e-4]
    assert "text_encoder_lr has 2 values, but the model has 1" in caplog.text


def test_first_weights_do_not_depend_on_which_other_layers_there_are():
    small, _, model = network(seed=5, network_train_unet_only=True)
    large, _, _ = network(seed=5, network_args=["conv_dim=2"])
    other, _, _ = network(seed=6, network_train_unet_only=True)
    name = "lora_unet_to_q.lora_down.weight"
    assert torch.equal(small.weights(model)[name], large.weights(model)[name])
    assert not torch.equal(small.weights(model)[name], other.weights(model)[name])


def test_layers_of_one_shape_begin_with_weights_of_their_own():
    method, _, _ = network(network_args=["conv_dim=2"])
    one, other = (method.network[name].lora_down.weight for name in ("lora_unet_to_q", "lora_unet_time"))
    assert one.shape == other.shape and not torch.equal(one, other)


def test_weights_have_the_community_s_names_and_shapes():
    method, _, model = network(network_dim=2, network_alpha=0.5, network_args=["conv_dim=3"])
    weights = method.weights(model)
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items() if "te_" in name or "conv" in name}
    assert shapes == {
        "lora_te_q_proj.lora_down.weight": (2, 4), "lora_te_q_proj.lora_up.weight": (4, 2), "lora_te_q_proj.alpha": (),
        "lora_unet_conv.lora_down.weight": (3, 3, 3, 3), "lora_unet_conv.lora_up.weight": (4, 3, 1, 1), "lora_unet_conv.alpha": ()}
    assert weights["lora_te_q_proj.alpha"] == 0.5 and weights["lora_unet_conv.alpha"] == 1.0
    assert all(tensor.dtype == torch.float32 and not tensor.requires_grad for tensor in weights.values())


def test_disabled_gives_the_base_model_and_then_the_network_again():
    model = ToyModel()
    x = torch.randn(2, 6)
    plain = model.parts["unet"]["to_q"](x)
    method, _, _ = network(model=model)
    fill(method)
    changed = model.parts["unet"]["to_q"](x)
    with method.disabled(model):
        assert torch.equal(model.parts["unet"]["to_q"](x), plain)
        with method.disabled(model):
            pass
        assert torch.equal(model.parts["unet"]["to_q"](x), plain)
    assert torch.equal(model.parts["unet"]["to_q"](x), changed) and not torch.equal(changed, plain)


def test_preparing_again_takes_the_earlier_network_off():
    method, _, model = network()
    fill(method, size=10.0)
    x = torch.randn(2, 6)
    with method.disabled(model):
        plain = model.parts["unet"]["to_q"](x)
    method.prepare(model)
    assert torch.equal(model.parts["unet"]["to_q"](x), plain)


def test_training_moves_the_network_and_leaves_the_model_as_it_is():
    method, groups, model = network()
    before = {name: tensor.clone() for name, tensor in model.parts["unet"].state_dict().items()}
    optimizer = torch.optim.SGD([{"params": group.parameters, "lr": 0.1} for group in groups])
    model.parts["unet"]["to_q"](torch.randn(4, 6)).square().sum().backward()
    optimizer.step()
    assert method.network["lora_unet_to_q"].lora_up.weight.any()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.parts["unet"].state_dict().items())


def test_train_mode_switches_dropout():
    method, _, model = network(network_dropout=0.5)
    fill(method)
    layer, x = model.parts["unet"]["to_q"], torch.randn(64, 6)
    method.train_mode(False)
    assert torch.equal(layer(x), layer(x))
    method.train_mode(True)
    assert not torch.equal(layer(x), layer(x))


@pytest.mark.parametrize("ending", ["safetensors", "pt", "ckpt"])
def test_a_network_goes_on_from_a_file(tmp_path, ending):
    first, _, model = network(network_args=["conv_dim=2"])
    fill(first)
    path = tmp_path / f"start.{ending}"
    save_weights(path, first.weights(model), {}, format=ending)
    second, _, _ = network(seed=9, network_args=["conv_dim=2"], network_weights=str(path))
    for name, tensor in first.weights(model).items():
        assert torch.equal(tensor, second.weights(model)[name]), name


def test_a_half_precision_file_is_trained_on_in_float32(tmp_path):
    first, _, model = network(network_alpha=10.3)
    fill(first)
    save_weights(tmp_path / "half.safetensors", first.weights(model), {}, "bf16")
    second, _, _ = network(network_alpha=10.3, network_weights=str(tmp_path / "half.safetensors"))
    found = second.weights(model)["lora_unet_to_q.lora_up.weight"]
    assert found.dtype == torch.float32
    assert torch.equal(found, first.weights(model)["lora_unet_to_q.lora_up.weight"].to(torch.bfloat16).float())
    assert second.network["lora_unet_to_q"].scale == 10.3 / 4


@pytest.fixture
def rank_2_file(tmp_path):
    """A file of rank 2, alpha 1, without convolutions."""
    method, _, model = network(network_dim=2)
    save_weights(tmp_path / "two.safetensors", method.weights(model), {})
    return str(tmp_path / "two.safetensors")


def test_another_rank_names_the_file_s(rank_2_file):
    said = faults_of(network_dim=4, network_weights=rank_2_file)
    assert "has rank 2, but network_dim is 4. Set network_dim to 2." in said
    assert check_network_args(NetworkOptions(network_dim=4, network_weights=rank_2_file)) == said.split("\n")


def test_another_alpha_names_the_file_s(rank_2_file):
    assert "Set network_alpha to 1." in faults_of(network_dim=2, network_alpha=2.0, network_weights=rank_2_file)


def test_a_file_without_alpha_means_alpha_is_the_rank(rank_2_file, tmp_path):
    from safetensors.torch import load_file, save_file

    weights = {name: tensor for name, tensor in load_file(rank_2_file).items() if not name.endswith("alpha")}
    path = str(tmp_path / "bare.safetensors")
    save_file(weights, path)
    assert network(network_dim=2, network_alpha=2.0, network_weights=path)[0].network["lora_unet_to_q"].scale == 1.0
    assert "Set network_alpha to 2." in faults_of(network_dim=2, network_alpha=1.0, network_weights=path)


def test_a_file_of_fewer_or_more_layers_is_refused_by_name(rank_2_file, tmp_path):
    said = faults_of(network_dim=2, network_args=["conv_dim=2"], network_weights=rank_2_file)
    assert "lacks lora_unet_conv.lora_down.weight" in said
    said = faults_of(network_dim=2, network_train_unet_only=True, network_weights=rank_2_file)
    assert "also holds lora_te_q_proj.alpha" in said


def test_a_convolutional_file_says_which_conv_dim_it_wants(tmp_path):
    method, _, model = network(network_args=["conv_dim=3"])
    path = str(tmp_path / "conv.safetensors")
    save_weights(path, method.weights(model), {})
    assert "network_args conv_dim=3" in faults_of(network_weights=path)
    assert "has rank 3 in 3x3 convolutions, but conv_dim is 2" in faults_of(network_args=["conv_dim=2"], network_weights=path)


def test_files_that_are_no_network_are_refused_in_words(tmp_path):
    missing = str(tmp_path / "no.safetensors")
    assert "does not exist" in faults_of(network_weights=missing)
    (tmp_path / "text.safetensors").write_text("hello")
    assert "cannot be read as .safetensors" in faults_of(network_weights=str(tmp_path / "text.safetensors"))
    (tmp_path / "text.pt").write_text("hello")
    assert "cannot be read" in faults_of(network_weights=str(tmp_path / "text.pt"))
    save_weights(tmp_path / "vae.safetensors", {"decoder.conv_in.weight": torch.ones(2)}, {})
    assert "is no LoRA" in faults_of(network_weights=str(tmp_path / "vae.safetensors"))


def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(tmp_path):
    import pickle

    class Runs:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    path = tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps({"a": Runs()}, protocol=2))
    assert "cannot be read" in faults_of(network_weights=str(path))
    assert not (tmp_path / "ran").exists()


def test_load_puts_back_what_weights_gave():
    method, _, model = network()
    fill(method)
    kept = {name: tensor.clone() for name, tensor in method.weights(model).items()}
    fill(method, seed=2)
    method.load(model, kept)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in method.weights(model).items())
    with pytest.raises(Faults, match="lacks"):
        method.load(model, dict(list(kept.items())[3:]))


def test_metadata_tells_kind_size_and_settings():
    method, _, _ = network(network_dim=2, network_alpha=0.5, network_args=["conv_dim=3", "rank_dropout=0.1"])
    told = method.metadata()
    assert json.loads(told.pop("ss_network_args")) == {"conv_dim": "3", "rank_dropout": "0.1"}
    assert told == {"ss_network_module": "networks.lora", "ss_network_dim": "2", "ss_network_alpha": "0.5", "ss_network_dropout": "None"}
    assert "ss_network_args" not in network()[0].metadata()


def test_dropouts_reach_the_layers():
    method, _, _ = network(network_dropout=0.1, network_args=["rank_dropout=0.2", "module_dropout=0.3"])
    dropouts = method.network["lora_unet_to_q"].dropouts
    assert (dropouts.values, dropouts.ranks, dropouts.modules) == (0.1, 0.2, 0.3)


@pytest.mark.parametrize("written,said", [
    ("conv_dim=0", "conv_dim is 0, but must be 1 or more"),
    ("conv_dim=four", "conv_dim is four, but must be a whole number"),
    ("rank_dropout=1", "rank_dropout is 1, but must be from 0 up to"),
    ("module_dropout=nan", "module_dropout is nan, but must be"),
    ("conv_dimm=4", "conv_dimm is not known. Did you mean conv_dim?"),
    ("loraplus_lr_ratio=16", "known to other trainers, but not built here yet"),
    ("conv_dim", "must be key=value"),
    ("conv_alpha=1", "conv_alpha does nothing without conv_dim"),
])
def test_wrong_settings_are_told(written, said):
    assert said in check_network_args(NetworkOptions(network_args=[written]))[0]


def test_all_wrong_settings_are_told_at_once():
    assert len(check_network_args(NetworkOptions(network_args=["conv_dim=x", "algo=loha", "rank_dropout=2"]))) == 3
