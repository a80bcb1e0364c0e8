"""Names and shapes in a weights file, read from its head: no values, no torch."""

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from backend.faults import Faults
from backend.models.pickles import PICKLE_START, ZIP_START, read_pickled

LENGTH_BYTES = 8
HEADER_LIMIT = 100_000_000  # bytes; the format's own limit


@dataclass(frozen=True)
class Header:
    """What a weights file says of itself."""

    format: Literal["safetensors", "pickle"]
    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str] = field(default_factory=dict)


def read_header(path: Path) -> Header:
    """Names and shapes of a .safetensors file or of one that torch.save wrote, told by its content. Raises Faults."""
    path = Path(path)
    if not path.exists():
        raise Faults(f"{path} does not exist.")
    if path.is_dir():
        raise Faults(f"{path} is a folder, but must be a file.")
    start = first_bytes(path, LENGTH_BYTES + 1)
    if not start:
        raise Faults(f"{path} is empty. Download it again.")
    if start[LENGTH_BYTES:] == b"{":  # the length may begin with any byte, so this is looked at first
        return read_safetensors_header(path)
    if start.startswith((ZIP_START, PICKLE_START)):
        found = read_pickled(path)
        return Header("pickle", {name: tensor.shape for name, tensor in found.tensors().items()})
    raise Faults(f"{path} is not a weights file: it is neither .safetensors nor written by torch.{looks_like(start)}")


def first_bytes(path: Path, count: int) -> bytes:
    """How a file begins."""
    try:
        with open(path, "rb") as file:
            return file.read(count)
    except OSError as error:
        raise Faults(f"{path} cannot be read: {error.strerror}.") from None


def looks_like(start: bytes) -> str:
    """What a file that holds no weights may be instead."""
    if start.lstrip().lower().startswith((b"<!doct", b"<html", b"<?xml")):
        return " It is a web page: the download went wrong, perhaps for want of a login."
    if start.startswith(b"version "):
        return " It is a pointer of Git LFS: run git lfs pull in its folder, or download the file itself."
    return ""


def read_safetensors_header(path: Path) -> Header:
    """The head of a .safetensors file, checked against the file's size."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = struct.unpack("<Q", file.read(LENGTH_BYTES))[0]
        if length > min(HEADER_LIMIT, size - LENGTH_BYTES):
            raise Faults(f"{path} is cut short or damaged: its head should have {length} bytes, and the file has {size}. Download it again.")
        try:
            entries = json.loads(file.read(length))
            metadata = entries.pop("__metadata__", {})
            shapes = {name: tuple(entry["shape"]) for name, entry in entries.items()}
            end = LENGTH_BYTES + length + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            raise Faults(f"{path} is damaged: its head cannot be read. Download it again.") from None
    if end > size:
        raise Faults(f"{path} is cut short: it should have {end} bytes and has {size}. Download it again.")
    return Header("safetensors", shapes, metadata)
