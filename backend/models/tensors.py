"""Tensors of a weights file, mapped from the disk rather than read."""

import mmap
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from backend.faults import Faults
from backend.models.headers import read_header
from backend.models.pickles import PickledFile, StoredTensor, read_pickled


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors by name, from .safetensors or a file that torch.save wrote, told by content. They share the file's pages: copy what is to be kept. Raises Faults."""
    if read_header(path).format == "safetensors":
        return read_safetensors(Path(path))
    found = read_pickled(path)
    try:
        return pickled_tensors(found)
    except Exception as error:  # archives can be damaged in many ways
        raise Faults(f"{path} is damaged ({error or type(error).__name__}). Download it again.") from None


def pickled_tensors(found: PickledFile) -> dict[str, Tensor]:
    """All tensors by name. Those that share values in the file share them here."""
    memory = mapped(found.path)
    storages: dict[tuple[str, str], Tensor] = {}
    tensors = {}
    for name, stored in found.tensors().items():
        key = (stored.storage.key, stored.dtype)
        if key not in storages:
            storages[key] = read_storage(found, stored, memory)
        tensors[name] = storages[key].as_strided(stored.shape, stored.strides, stored.offset)
    return tensors


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors by name. Raises Faults."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise Faults(f"{path} is damaged ({error}). Download it again.") from None


def mapped(path: Path) -> mmap.mmap:
    """The file as memory, copied where it is written to."""
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def read_storage(found: PickledFile, stored: StoredTensor, memory: mmap.mmap) -> Tensor:
    """The values of a storage in a row, in the tensor's number format."""
    dtype = getattr(torch, stored.dtype)
    span = found.spans[stored.storage.key]
    if not span.length:
        return torch.empty(0, dtype=dtype)
    if span.packed:
        with zipfile.ZipFile(found.path) as archive:
            return torch.frombuffer(bytearray(archive.read(span.packed)), dtype=dtype)
    return torch.frombuffer(memory, dtype=dtype, count=span.length // dtype.itemsize, offset=span.start)
