"""Files that torch.save wrote (.ckpt, .pt, .bin), read without running anything in them, and without torch.

Such a file is a pickle: a list of calls to make. Here no call is ever made: a few names that build tensors are understood, names of known frameworks become inert
objects, and any other name is refused.
"""

import io
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from backend.faults import Faults

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # what torch.save wrote first before version 1.6
LEGACY_PROTOCOL = 1001
ZIP_START, PICKLE_START = b"PK\x03\x04", b"\x80"
ZIP_ENTRY_HEAD = 30  # bytes before the entry's name
# Frameworks whose objects training left beside the weights. Nothing of them is imported or run.
INERT_MODULES = (
    "torch", "numpy", "pytorch_lightning", "lightning", "lightning_fabric", "lightning_utilities", "torchmetrics", "omegaconf", "ldm", "sgm", "taming", "diffusers", "transformers",
    "accelerate", "argparse", "pathlib", "typing", "datetime", "enum", "numbers", "fractions", "decimal", "uuid", "yaml", "collections", "copyreg", "easydict")
INERT_NAMES = {("builtins", name) for name in (
    "set", "frozenset", "list", "dict", "tuple", "int", "float", "bool", "str", "bytes", "bytearray", "complex", "slice", "range", "object", "type")} | {("_codecs", "encode")}
PYTHON_2_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # torch writes the old names to this day
STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32",
    "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8", "BoolStorage": "bool", "UntypedStorage": "uint8"}
SIZES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1, "bool": 1,
         "uint16": 2, "uint32": 4, "uint64": 8, "float8_e4m3fn": 1, "float8_e5m2": 1}


@dataclass(frozen=True)
class Storage:
    """Values in a row. count: how many of dtype."""

    key: str
    dtype: str
    count: int


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor's values are: offset and strides count values of dtype in its storage."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class Span:
    """Bytes of a storage in the file; packed ones (in a compressed archive) must be read through the archive."""

    start: int
    length: int
    packed: str = ""  # the archive entry's name


@dataclass
class PickledFile:
    """What a file holds: its objects with StoredTensor in place of tensors, and where each storage lies."""

    path: Path
    content: Any
    spans: dict[str, Span]

    def tensors(self) -> dict[str, StoredTensor]:
        """Tensors by name. A training checkpoint keeps them under state_dict; names of nested ones are joined by dots."""
        content = self.content
        if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
            content = content["state_dict"]
        return flattened(content)


class Inert(dict):
    """Stands for an object of a known framework. It takes whatever the file hands it, and does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "Inert":
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__()

    def __call__(self, *args: Any, **kwargs: Any) -> "Inert":
        return Inert()

    def __setstate__(self, state: Any) -> None:
        pass

    def __hash__(self) -> int:
        return id(self)

    def append(self, value: Any) -> None:
        """Lists are filled by this."""

    def extend(self, values: Any) -> None:
        """Lists are filled by this."""

    def add(self, value: Any) -> None:
        """Sets are filled by this."""


class RefusedName(Exception):
    """The file asks for something that is not needed to store weights."""


class RestrictedUnpickler(pickle.Unpickler):
    """Builds plain containers, StoredTensor and Inert, and nothing else."""

    def __init__(self, file: BinaryIO):
        super().__init__(file, encoding="latin1")  # Python 2 wrote names as bytes
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name in the file: never the thing itself."""
        module = PYTHON_2_MODULES.get(module, module)
        known = TENSOR_NAMES.get((module, name))
        if known is not None:
            return known
        if module in ("torch", "torch.storage") and name in STORAGES:
            return STORAGES[name]
        if module == "torch" and name in SIZES:
            return DType(name)
        if (module, name) in INERT_NAMES or module.split(".")[0] in INERT_MODULES:
            return Inert
        raise RefusedName(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        """A storage that lies outside the pickle."""
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[1], str):
            raise pickle.UnpicklingError("a reference to something that is not a storage")
        storage = Storage(str(pid[2]), pid[1], int(pid[4]))
        if len(pid) > 5 and pid[5] is not None:  # a part of a storage, as torch before 1.0 wrote it
            raise pickle.UnpicklingError("a storage that is a part of another one")
        return self.storages.setdefault(storage.key, storage)


class DType(str):
    """The name of a number format."""

    def __call__(self, *args: Any) -> "DType":
        return self


def tensor_from_storage(storage: Storage, offset: int, shape: tuple, strides: tuple, *_: Any) -> StoredTensor:
    """torch._utils._rebuild_tensor and _rebuild_tensor_v2."""
    return StoredTensor(storage, storage.dtype, offset, whole_numbers(shape), whole_numbers(strides))


def tensor_of_dtype(storage: Storage, offset: int, shape: tuple, strides: tuple, *rest: Any) -> StoredTensor:
    """torch._utils._rebuild_tensor_v3, which names the number format on its own, after two things of no interest here."""
    return StoredTensor(storage, str(rest[2]), offset, whole_numbers(shape), whole_numbers(strides))


def first_argument(value: Any, *_: Any) -> Any:
    """torch._utils._rebuild_parameter: a parameter is its tensor."""
    return value


def rebuilt_by(function: Any, kind: Any, arguments: tuple, *_: Any) -> Any:
    """torch._tensor._rebuild_from_type_v2: a tensor with attributes."""
    return function(*arguments) if function in TENSOR_NAMES.values() else Inert()


def whole_numbers(values: Any) -> tuple[int, ...]:
    """A shape or strides, checked."""
    numbers = tuple(int(value) for value in values)
    if any(number < 0 for number in numbers):
        raise pickle.UnpicklingError("a tensor of negative size")
    return numbers


TENSOR_NAMES = {
    ("torch._utils", "_rebuild_tensor"): tensor_from_storage,
    ("torch._utils", "_rebuild_tensor_v2"): tensor_from_storage,
    ("torch._utils", "_rebuild_tensor_v3"): tensor_of_dtype,
    ("torch._utils", "_rebuild_parameter"): first_argument,
    ("torch._utils", "_rebuild_parameter_with_state"): first_argument,
    ("torch._tensor", "_rebuild_from_type_v2"): rebuilt_by,
    ("collections", "OrderedDict"): OrderedDict,
}


def read_pickled(path: Path) -> PickledFile:
    """Read a file that torch.save wrote. Raises Faults where it is damaged, or asks to run something."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            zipped = file.read(4) == ZIP_START
            file.seek(0)
            found = read_zipped(path, file) if zipped else read_legacy(path, file)
        check_tensors(found)
        return found
    except Faults:
        raise
    except RefusedName as refused:
        raise Faults(f"{path} asks to run {refused}, which is not needed to store weights; refused. Nothing was run. "
                     "Get the .safetensors file of this model, or leave it alone: it may be harmful.") from None
    except Exception as error:  # a damaged pickle can raise nearly anything
        if isinstance(error, OSError) and error.errno is not None:
            raise Faults(f"{path} cannot be read: {error.strerror}.") from None
        raise Faults(f"{path} is damaged, or is not a file that torch wrote ({error or type(error).__name__}). Download it again.") from None


def read_zipped(path: Path, file: BinaryIO) -> PickledFile:
    """The layout since torch 1.6: an archive with data.pkl, and one entry for each storage."""
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        main = next((name for name in entries if name.split("/", 1)[-1] == "data.pkl"), None)
        if main is None:
            raise ValueError("the archive holds no data.pkl")
        root = main.removesuffix("data.pkl")
        if f"{root}byteorder" in entries and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("it was written on a machine with another byte order")
        content = RestrictedUnpickler(io.BytesIO(archive.read(main))).load()
        prefix = f"{root}data/"
        spans = {name.removeprefix(prefix): entry_span(file, entry) for name, entry in entries.items() if name.startswith(prefix)}
    return PickledFile(path, content, spans)


def entry_span(file: BinaryIO, entry: zipfile.ZipInfo) -> Span:
    """Where an archive entry's bytes begin: behind its own head, whose lengths may differ from those in the directory."""
    file.seek(entry.header_offset)
    head = file.read(ZIP_ENTRY_HEAD)
    name_length, extra_length = struct.unpack("<HH", head[26:30])
    packed = entry.filename if entry.compress_type != zipfile.ZIP_STORED else ""
    return Span(entry.header_offset + ZIP_ENTRY_HEAD + name_length + extra_length, entry.file_size, packed)


def read_legacy(path: Path, file: BinaryIO) -> PickledFile:
    """The layout before torch 1.6: pickles one after another, then each storage with its length before it."""
    if file.read(1) != PICKLE_START:
        raise ValueError("it begins neither as an archive nor as a pickle")
    file.seek(0)
    if load_next(file) != LEGACY_MAGIC:
        raise ValueError("it is a pickle, but not one of torch")
    if load_next(file) != LEGACY_PROTOCOL:
        raise ValueError("its version is not known")
    if not load_next(file).get("little_endian", True):
        raise ValueError("it was written on a machine with another byte order")
    unpickler = RestrictedUnpickler(file)
    content = unpickler.load()
    spans = {}
    for key in load_next(file):
        count = struct.unpack("<q", file.read(8))[0]
        length = count * SIZES[unpickler.storages[str(key)].dtype]
        spans[str(key)] = Span(file.tell(), length)
        file.seek(length, io.SEEK_CUR)
    return PickledFile(path, content, spans)


def load_next(file: BinaryIO) -> Any:
    """The next of several pickles in a row."""
    return RestrictedUnpickler(file).load()


def flattened(content: Any, prefix: str = "") -> dict[str, StoredTensor]:
    """All tensors below dicts, names joined by dots."""
    if isinstance(content, StoredTensor):
        return {prefix.removesuffix("."): content}
    found: dict[str, StoredTensor] = {}
    if isinstance(content, dict):
        for name, value in content.items():
            found.update(flattened(value, f"{prefix}{name}."))
    return found


def check_tensors(found: PickledFile) -> None:
    """Every tensor must lie within its storage, and every storage within the file."""
    size = found.path.stat().st_size
    for name, tensor in found.tensors().items():
        span = found.spans.get(tensor.storage.key)
        last = tensor.offset + sum((side - 1) * stride for side, stride in zip(tensor.shape, tensor.strides))
        needed = (last + 1) * SIZES.get(tensor.dtype, math.inf) if 0 not in tensor.shape else 0
        if span is None or needed > span.length or tensor.offset < 0 or (not span.packed and span.start + span.length > size):
            raise Faults(f"{found.path} is cut short: the values of {name} are missing. Download it again.")
