"""Trained files: what safetensors and torch read back, hashes by their definition, refusals."""

import hashlib
import json
import struct

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from backend.checkpoints.metadata import full_hash, model_hash
from backend.checkpoints.weights import save_weights
from backend.faults import Faults

FACTS = {"ss_network_dim": "4", "ss_training_comment": 'a "word", ü\n', "modelspec.title": "cat"}


def tensors():
    """Some tensors of several kinds; one is not contiguous."""
    generator = torch.Generator().manual_seed(0)
    return {
        "b.lora_down.weight": torch.randn(4, 6, generator=generator),
        "a.lora_up.weight": torch.randn(6, 4, generator=generator).T,
        "a.alpha": torch.tensor(2.0),
        "ids": torch.arange(5),
        "empty": torch.zeros(0, 3),
    }


def header_and_data(path):
    """A .safetensors file's header, and its tensors' bytes."""
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8:8 + length]), content[8 + length:]


def test_what_is_saved_is_what_safetensors_reads(tmp_path):
    path = tmp_path / "cat.safetensors"
    save_weights(path, tensors(), FACTS)
    read = safetensors.torch.load_file(path)
    assert read.keys() == tensors().keys()
    assert all(torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype for name, tensor in tensors().items())
    with safe_open(path, framework="numpy") as file:
        assert FACTS.items() <= file.metadata().items()


@pytest.mark.parametrize("precision,dtype", [(None, torch.float32), ("float", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_precision_changes_numbers_with_a_point_and_no_others(tmp_path, precision, dtype):
    save_weights(tmp_path / "cat.safetensors", tensors(), {}, precision)
    read = safetensors.torch.load_file(tmp_path / "cat.safetensors")
    assert read["b.lora_down.weight"].dtype == read["a.alpha"].dtype == dtype
    assert torch.equal(read["b.lora_down.weight"], tensors()["b.lora_down.weight"].to(dtype))
    assert read["ids"].dtype == torch.int64


def test_tensors_lie_where_the_library_would_lay_them(tmp_path):
    path = tmp_path / "cat.safetensors"
    mixed = {f"{name}-{dtype}": tensor.contiguous().to(dtype) for name, tensor in tensors().items()
             for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8)}
    save_weights(path, mixed, {})
    library = safetensors.torch.save(mixed)
    length = struct.unpack("<Q", library[:8])[0]
    assert header_and_data(path)[1] == library[8 + length:]


def test_the_model_hash_is_of_the_tensors_alone(tmp_path):
    hashes = []
    for number in range(2):
        path = tmp_path / f"{number}.safetensors"
        save_weights(path, tensors(), {"ss_training_started_at": str(number)})
        header, data = header_and_data(path)
        assert header["__metadata__"]["sshs_model_hash"] == hashlib.sha256(data).hexdigest()
        hashes.append(header["__metadata__"]["sshs_model_hash"])
    assert hashes[0] == hashes[1]


def test_the_legacy_hash_is_of_64_kib_at_1_mib_of_a_file_with_only_ss_facts(tmp_path):
    large = {"large": torch.randn(300_000, generator=torch.Generator().manual_seed(0))}
    save_weights(tmp_path / "cat.safetensors", large, FACTS)
    told = header_and_data(tmp_path / "cat.safetensors")[0]["__metadata__"]["sshs_legacy_hash"]
    known = {key: value for key, value in FACTS.items() if key.startswith("ss_")}
    assert told == hashlib.sha256(safetensors.torch.save(large, known)[0x100000:0x110000]).hexdigest()[:8]


@pytest.mark.parametrize("ending", ["safetensors", "pt", "ckpt"])
def test_the_same_weights_give_the_same_bytes(tmp_path, ending):
    forwards, backwards = tensors(), dict(reversed(tensors().items()))
    save_weights(tmp_path / f"one.{ending}", forwards, FACTS, format=ending)
    save_weights(tmp_path / f"two.{ending}", backwards, dict(reversed(FACTS.items())), format=ending)
    assert (tmp_path / f"one.{ending}").read_bytes() == (tmp_path / f"two.{ending}").read_bytes()


def test_pt_and_ckpt_are_plain_named_tensors(tmp_path):
    save_weights(tmp_path / "cat.pt", tensors(), FACTS, "fp16", "pt")
    read = torch.load(tmp_path / "cat.pt", weights_only=True)
    assert torch.equal(read["a.lora_up.weight"], tensors()["a.lora_up.weight"].half())


def test_a_tensor_of_a_larger_one_takes_only_its_own_room(tmp_path):
    save_weights(tmp_path / "cat.pt", {"slice": torch.zeros(100_000)[:10]}, {}, format="pt")
    assert (tmp_path / "cat.pt").stat().st_size < 10_000


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_weights_that_are_not_finite_are_refused_and_the_older_file_stays(tmp_path, value, ending):
    path = tmp_path / f"cat.{ending}"
    path.write_text("older")
    bad = tensors()
    bad["b.lora_down.weight"][1, 2] = value
    with pytest.raises(Faults, match="b.lora_down.weight holds NaN or infinite values; nothing was written"):
        save_weights(path, bad, {}, format=ending)
    assert path.read_text() == "older" and list(tmp_path.iterdir()) == [path]


def test_values_too_large_for_half_precision_are_told_from_broken_training(tmp_path):
    with pytest.raises(Faults, match="too large for save_precision"):
        save_weights(tmp_path / "cat.safetensors", {"a": torch.tensor([1e6])}, {}, "fp16")
    save_weights(tmp_path / "cat.safetensors", {"a": torch.tensor([1e6])}, {}, "bf16")


def test_hashes_of_a_file_are_of_its_bytes(tmp_path):
    content = bytes(range(256)) * 5000
    (tmp_path / "model").write_bytes(content)
    assert full_hash(tmp_path / "model") == hashlib.sha256(content).hexdigest()
    assert model_hash(tmp_path / "model") == hashlib.sha256(content[0x100000:0x110000]).hexdigest()[:8]
