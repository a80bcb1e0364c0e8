"""Files that torch.save wrote: their tensors come back bit for bit, and nothing in them is ever run."""

import argparse
import collections
import os
import pathlib
import pickle
import struct
import subprocess
import sys
import types
import zipfile

import numpy as np
import pytest
import torch

from backend.faults import Faults
from backend.models.headers import read_header
from backend.models.tensors import read_tensors


class Harmful:
    """Runs a function when an ordinary unpickler reads it."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.fixture
def tensors():
    draw = torch.Generator().manual_seed(4)
    whole = torch.randn(6, 8, generator=draw)
    return {
        "float": whole, "transposed": whole.T, "part": whole[2:5, 1::2], "half": whole.half(), "brain": whole.bfloat16(), "long": torch.arange(7),
        "bool": whole > 0, "byte": torch.arange(5, dtype=torch.uint8), "number": torch.tensor(3.5), "parameter": torch.nn.Parameter(whole * 2),
        "empty": torch.zeros(0, 3), "tied": whole}


def assert_equal(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value.detach()), name


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("wrapped", [True, False], ids=["training checkpoint", "bare"])
def test_tensors_come_back_as_torch_wrote_them(tensors, zipped, wrapped, tmp_path):
    content = {"state_dict": tensors, "epoch": 5, "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}}]} if wrapped else tensors
    torch.save(content, tmp_path / "file.ckpt", _use_new_zipfile_serialization=zipped)
    assert_equal(read_tensors(tmp_path / "file.ckpt"), tensors)
    assert read_header(tmp_path / "file.ckpt").shapes == {name: tuple(value.shape) for name, value in tensors.items()}


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16, torch.uint32, torch.int8, torch.float64], ids=str)
def test_rarer_number_formats_come_back(dtype, tmp_path):
    tensor = torch.tensor([0, 1, 2, 3, 100]).to(dtype)[1:]
    torch.save({"a": tensor}, tmp_path / "file.ckpt")
    found = read_tensors(tmp_path / "file.ckpt")["a"]
    assert found.dtype == dtype and found.double().tolist() == tensor.double().tolist() and len(found) == 4


def test_an_embeddings_nested_tensors_have_dotted_names(tmp_path):
    torch.save({"string_to_token": {"*": torch.tensor(265)}, "string_to_param": {"*": torch.ones(2, 3)}, "name": "x", "step": 9}, tmp_path / "word.pt")
    assert torch.equal(read_tensors(tmp_path / "word.pt")["string_to_param.*"], torch.ones(2, 3))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("function, arguments, name", [
    (os.system, ("touch {}",), f"{os.system.__module__}.system"),
    (subprocess.check_output, (["touch", "{}"],), "(commands|subprocess).check_output"),
    (eval, ("__import__('os').system('touch {}')",), "builtins.eval"),
    (getattr, (os, "system"), "builtins.getattr"),
], ids=["system", "subprocess", "eval", "getattr"])
def test_a_file_that_asks_to_run_something_is_refused_and_not_run(function, arguments, name, zipped, tmp_path):
    mark = tmp_path / "ran"
    arguments = tuple([part.format(mark) for part in each] if isinstance(each, list) else each.format(mark) if isinstance(each, str) else "os" for each in arguments)
    torch.save({"state_dict": {"a": torch.ones(2)}, "extra": Harmful(function, *arguments)}, tmp_path / "evil.ckpt", _use_new_zipfile_serialization=zipped)
    for read in (read_tensors, read_header):
        with pytest.raises(Faults, match=f"asks to run {name}, .* refused. Nothing was run. Get the .safetensors file"):
            read(tmp_path / "evil.ckpt")
    assert not mark.exists()


def test_the_harmful_file_would_have_run_elsewhere(tmp_path):
    """So that the test above can fail."""
    mark = tmp_path / "ran"
    pickle.loads(pickle.dumps(Harmful(os.system, f"touch {mark}")))
    assert mark.exists()


@pytest.mark.parametrize("function, arguments", [(np.save, ("{}", [1])), (torch.save, ({}, "{}"))], ids=["numpy", "torch"])
def test_functions_of_known_frameworks_are_not_run_either(function, arguments, tmp_path):
    mark = tmp_path / "ran.npy"
    arguments = tuple(each.format(mark) if isinstance(each, str) else each for each in arguments)
    torch.save({"state_dict": {"a": torch.ones(2)}, "extra": Harmful(function, *arguments)}, tmp_path / "file.ckpt")
    assert torch.equal(read_tensors(tmp_path / "file.ckpt")["a"], torch.ones(2))
    assert not mark.exists()


def test_a_lightning_checkpoint_loads_where_lightning_is_not_installed(tmp_path, monkeypatch):
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    for name, kind in (("ModelCheckpoint", object), ("AttributeDict", dict), ("Bag", list), ("Mode", str)):
        made = type(name, (kind,), {"__module__": module.__name__})
        setattr(module, name, made)
    checkpoint = module.ModelCheckpoint()
    checkpoint.best, checkpoint.paths = torch.tensor(0.5), [1, 2]
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    content = {
        "state_dict": collections.OrderedDict(a=torch.arange(6.0).reshape(2, 3)), "epoch": 1, "pytorch-lightning_version": "1.4.2",
        "callbacks": {module.ModelCheckpoint: {"best_model_score": torch.tensor(0.1), "state": checkpoint, "bag": module.Bag([1, 2]), "mode": module.Mode("min")}},
        "hyper_parameters": module.AttributeDict(lr=1e-4, args=argparse.Namespace(x=1), where=pathlib.PurePosixPath("/x"), seen={1, 2}, numpy=np.float64(3), rows=np.arange(4)),
        "lr_schedulers": [torch.optim.lr_scheduler.LinearLR(torch.optim.SGD([torch.ones(1, requires_grad=True)], 1.0))]}
    torch.save(content, tmp_path / "lightning.ckpt")
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks", module.__name__):
        monkeypatch.delitem(sys.modules, name)
    found = read_tensors(tmp_path / "lightning.ckpt")
    assert list(found) == ["a"] and torch.equal(found["a"], torch.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("share", [0.999, 0.5, 0.05, 0.001])
def test_a_truncated_file_is_told(share, zipped, tmp_path):
    path = tmp_path / "file.ckpt"
    torch.save({"a": torch.randn(50, 50), "b": torch.randn(50, 50)}, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[:int(path.stat().st_size * share)])
    with pytest.raises(Faults, match="file.ckpt is (cut short|damaged|not a weights file|empty)"):
        read_tensors(path)


def test_any_damage_is_told_or_harmless(tmp_path):
    path, draw = tmp_path / "file.ckpt", np.random.default_rng(0)
    torch.save({"a": torch.randn(5, 5), "b": {"c": torch.randn(5)}}, path)
    whole = path.read_bytes()
    told = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for place in draw.integers(0, len(whole), 4):
            damaged[place] = draw.integers(256)
        path.write_bytes(damaged)
        try:
            read_tensors(path)
        except Faults:
            told += 1
    assert told > 30


def test_a_tensor_that_claims_more_than_its_storage_is_refused(tmp_path):
    torch.save({"a": torch.ones(4)}, tmp_path / "file.ckpt")
    with zipfile.ZipFile(tmp_path / "file.ckpt") as plain, zipfile.ZipFile(tmp_path / "long.ckpt", "w") as long:
        for name in plain.namelist():
            data = plain.read(name)
            # K is a one-byte number and \x85 a tuple of one: the shape (4,) becomes (200,).
            long.writestr(name, data.replace(b"K\x04\x85", b"K\xc8\x85") if name.endswith("data.pkl") else data)
    with pytest.raises(Faults, match="cut short: the values of a are missing"):
        read_tensors(tmp_path / "long.ckpt")


def test_a_file_whose_parts_hold_themselves_is_told(tmp_path):
    content = {"a": torch.ones(2)}
    content["again"] = content
    torch.save(content, tmp_path / "file.ckpt")
    with pytest.raises(Faults, match="is damaged"):
        read_header(tmp_path / "file.ckpt")


def test_heads_are_read_without_loading_torch(tmp_path):
    torch.save({"a": torch.ones(4)}, tmp_path / "file.ckpt")
    code = ("import sys; from backend.models.recognise import recognise; from backend.models.registry import check_model_files; "
            f"recognise({str(tmp_path / 'file.ckpt')!r}); sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_safetensors_head_gives_shapes_and_metadata(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2, 3), "b": torch.tensor(1.0)}, tmp_path / "file.safetensors", metadata={"ss_network_dim": "4"})
    header = read_header(tmp_path / "file.safetensors")
    assert header.shapes == {"a": (2, 3), "b": ()} and header.metadata == {"ss_network_dim": "4"} and header.format == "safetensors"


@pytest.mark.parametrize("content, told", [
    (b"", "is empty"), (os.urandom(8) + b"x" * 5000, "is not a weights file"), (b"<!DOCTYPE html><html>Please log in</html>", "is a web page"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n", "pointer of Git LFS"), (struct.pack("<Q", 10 ** 12) + b"{}" * 50, "is cut short or damaged"),
    (struct.pack("<Q", 8) + b"{nonsense" * 4, "is damaged"), (struct.pack("<Q", 2) + b"{}", None), (struct.pack("<Q", 9) + b'{"a": 1} ', "is damaged"),
    (b"PK\x03\x04" + b"x" * 100, "is damaged"), (pickle.dumps([1, 2]), "is a pickle, but not one of torch"),
], ids=["empty", "random", "web page", "lfs", "huge head", "no json", "no tensors", "odd json", "no zip", "plain pickle"])
def test_what_is_no_weights_file_is_told_in_one_sentence(content, told, tmp_path):
    path = tmp_path / "file.safetensors"
    path.write_bytes(content)
    if told is None:
        assert read_header(path).shapes == {}
        return
    with pytest.raises(Faults, match=told) as faults:
        read_header(path)
    assert len(faults.value.messages) == 1 and str(path) in faults.value.messages[0]
