"""Network files: what they hold, and whether it fits a network. Imports torch only to read weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Mapping

from backend.faults import Faults
from backend.methods.network.arguments import NetworkArguments
from backend.methods.network.options import NetworkOptions

if TYPE_CHECKING:
    from torch import Tensor

DOWN = ".lora_down.weight"
PICKLES = (".pt", ".ckpt")
NAMED = 3  # names shown of a long list

Shapes = Mapping[str, tuple[int, ...]]


def check_network_file(options: NetworkOptions, arguments: NetworkArguments) -> list[str]:
    """What stands against going on from network_weights, as far as its header tells."""
    path = Path(options.network_weights)
    if path.suffix.lower() in PICKLES:
        return [] if path.is_file() else [f"network_weights: {path} does not exist. Give the file of a network."]
    try:
        return rank_faults(read_shapes(path), options, arguments, f"network_weights: {path}")
    except Faults as faults:
        return faults.messages


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor in a .safetensors network, from the header alone. Raises Faults."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise Faults(f"network_weights: {path} does not exist. Give the file of a network.")
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    except (SafetensorError, OSError) as fault:
        raise Faults(f"network_weights: {path} cannot be read as .safetensors ({fault}). Give the whole file of a network.") from None


def read_weights(path: Path) -> "dict[str, Tensor]":
    """A network's tensors, on the CPU, as they are stored. Nothing in the file is executed. Raises Faults."""
    import torch

    path = Path(path)
    if path.suffix.lower() not in PICKLES:
        from safetensors.torch import load_file

        read_shapes(path)
        return load_file(path)
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as fault:  # torch.load raises a dozen kinds, by how the file is broken
        first_line = str(fault).strip().split("\n")[0]
        raise Faults(f"network_weights: {path} cannot be read ({first_line}). Give the file of a network.") from None
    if not isinstance(weights, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in weights.values()):
        raise Faults(f"network_weights: {path} is not a network: it holds more than named tensors.")
    return weights


def rank_faults(shapes: Shapes, options: NetworkOptions, arguments: NetworkArguments, source: str) -> list[str]:
    """Where a file's ranks are others than the options'; source begins the sentences."""
    downs = {name: shape for name, shape in shapes.items() if name.endswith(DOWN)}
    if not downs:
        return [f"{source} is no LoRA: it holds no tensor whose name ends with {DOWN}."]
    faults = []
    plain = {shape[0] for shape in downs.values() if not is_wide(shape)}
    wide = {shape[0] for shape in downs.values() if is_wide(shape)}
    if plain - {options.network_dim}:
        faults.append(f"{source} has rank {listed(plain)}, but network_dim is {options.network_dim}. {advice('network_dim', plain)}")
    if wide and arguments.conv_dim is None:
        faults.append(f"{source} also changes 3x3 convolutions, with rank {listed(wide)}. {advice('network_args conv_dim', wide)}")
    elif wide - {arguments.conv_dim}:
        faults.append(f"{source} has rank {listed(wide)} in 3x3 convolutions, but conv_dim is {arguments.conv_dim}. "
                      f"{advice('network_args conv_dim', wide)}")
    return faults


def is_wide(shape: tuple[int, ...]) -> bool:
    """Whether a down factor belongs to a convolution that sees more than one pixel."""
    return len(shape) == 4 and max(shape[2:]) > 1


def listed(ranks: set[int]) -> str:
    """Ranks in words: 4, or 4 and 8."""
    return " and ".join(str(rank) for rank in sorted(ranks))


def advice(option: str, ranks: set[int]) -> str:
    """What to do about another rank."""
    if len(ranks) > 1:
        return "A network with several ranks cannot be trained on here yet."
    return f"Set {option}{'=' if ' ' in option else ' to '}{listed(ranks)}."


def name_faults(expected: Shapes, found: Shapes, source: str) -> list[str]:
    """Where a file's names or shapes are others than a network's; the alpha of a layer may be missing."""
    faults = []
    missing = [name for name in expected if name not in found and not name.endswith(".alpha")]
    extra = [name for name in found if name not in expected]
    if missing:
        faults.append(f"{source} lacks {some(missing)}. It was trained on fewer layers than this network has, or for another model.")
    if extra:
        faults.append(f"{source} also holds {some(extra)}. It was trained on more layers than this network has, or for another model.")
    for name, shape in expected.items():
        if name in found and tuple(found[name]) != tuple(shape):
            faults.append(f"{source}: {name} has the shape {list(found[name])}, but must be {list(shape)}. It was trained for another model.")
            break
    return faults


def some(names: list[str]) -> str:
    """The first few of many names."""
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
