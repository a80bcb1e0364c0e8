"""Trained files: written whole, refused where a number is not finite, the same bytes for the same weights and facts."""

import hashlib
import json
from pathlib import Path
from typing import Iterable, Iterator, Literal, Mapping

import torch
from torch import Tensor

from backend.checkpoints.metadata import LEGACY_SIZE, LEGACY_START
from backend.faults import Faults
from backend.files import written_whole

Precision = Literal["float", "fp16", "bf16"] | None

DTYPES = {"float": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# safetensors' names, in the order in which it lays tensors out: the widest first, then by name.
STORED = {
    torch.int64: "I64", torch.float64: "F64", torch.float32: "F32", torch.int32: "I32", torch.bfloat16: "BF16", torch.float16: "F16",
    torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL"}
ALIGNMENT = 8  # bytes; the header is padded with blanks to a multiple of it


def save_weights(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], precision: Precision = None,
                 format: Literal["safetensors", "ckpt", "pt"] = "safetensors") -> None:
    """Write tensors under their names, in order, on the CPU. precision: None keeps each as it is.

    A .safetensors file carries the metadata and its own hashes. Raises Faults, and writes nothing, where a value is NaN or infinite.
    """
    path = Path(path)
    stored = {name: prepared(tensors[name], precision) for name in sorted(tensors)}
    refuse_not_finite(path, tensors, stored)
    with written_whole(path) as draft, open(draft, "wb") as file:
        if format == "safetensors":
            for block in file_blocks(stored, {**metadata, **hashes(stored, metadata)}):
                file.write(block)
        else:
            # To an open file: given a name, torch stores that name, and the same weights would give other bytes.
            torch.save(stored, file)


def prepared(tensor: Tensor, precision: Precision) -> Tensor:
    """The tensor as it is stored: whole numbers stay what they are."""
    dtype = DTYPES[precision] if precision and tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to("cpu", dtype).contiguous().clone()


def refuse_not_finite(path: Path, tensors: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> None:
    """Raises Faults where a stored number is NaN or infinite, telling whether training or the number format did it."""
    bad = [name for name, tensor in stored.items() if not is_finite(tensor)]
    if not bad:
        return
    more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
    overflown = [name for name in bad if is_finite(tensors[name])]
    if overflown == bad:
        raise Faults(f"{path.name}: {bad[0]}{more} holds values too large for save_precision; nothing was written. Use bf16 or float.")
    raise Faults(f"{path.name}: {bad[0]}{more} holds NaN or infinite values; nothing was written. "
                 "Go on from an earlier file or state, with a lower learning_rate.")


def is_finite(tensor: Tensor) -> bool:
    """Whether no value is NaN or infinite."""
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def hashes(stored: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, str]:
    """The hashes by which other programs know a file: of its tensors alone, and of a stretch of a file that has only ss_ metadata."""
    whole = hashlib.sha256()
    for block in tensor_blocks(stored):
        whole.update(block)
    known = {key: value for key, value in metadata.items() if key.startswith("ss_")}
    stretch = hashlib.sha256()
    for block in stretch_of(file_blocks(stored, known), LEGACY_START, LEGACY_SIZE):
        stretch.update(block)
    return {"sshs_model_hash": whole.hexdigest(), "sshs_legacy_hash": stretch.hexdigest()[:8]}


def stretch_of(blocks: Iterable[memoryview], start: int, size: int) -> Iterator[memoryview]:
    """The bytes from start to start + size of what the blocks make up."""
    at = 0
    for block in blocks:
        yield block[max(0, start - at):max(0, start + size - at)]
        at += len(block)


def file_blocks(stored: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Iterator[memoryview]:
    """A .safetensors file, a piece at a time.

    Not by the library's own writer, which puts the metadata in another order each time. Format: a length (8 bytes, little
    endian), a JSON header, the tensors' bytes.
    """
    header, at = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}, 0
    for name, tensor in laid_out(stored):
        size = tensor.numel() * tensor.element_size()
        header[name] = {"dtype": STORED[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % ALIGNMENT)
    yield memoryview(len(text).to_bytes(8, "little"))
    yield memoryview(text)
    yield from tensor_blocks(stored)


def tensor_blocks(stored: Mapping[str, Tensor]) -> Iterator[memoryview]:
    """The tensors' bytes, in the order of the file."""
    for _, tensor in laid_out(stored):
        yield memoryview(tensor.reshape(-1).view(torch.uint8).numpy())


def laid_out(stored: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    """The tensors in the order of the file."""
    order = list(STORED)
    return sorted(stored.items(), key=lambda item: (order.index(item[1].dtype), item[0].encode("utf-8")))
