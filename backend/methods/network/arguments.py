"""The key=value settings of a network, as network_args holds them. Imports no torch."""

from dataclasses import dataclass

from backend.faults import Faults, did_you_mean
from backend.methods.network.options import NetworkOptions


@dataclass(frozen=True)
class NetworkArguments:
    """What network_args says."""

    conv_dim: int | None = None  # rank of 3x3 convolutions; None leaves everything outside the transformers alone
    conv_alpha: float = 1.0
    rank_dropout: float = 0.0
    module_dropout: float = 0.0


def read_rank(text: str) -> int:
    """A rank: a whole number from 1."""
    try:
        rank = int(text)
    except ValueError:
        raise ValueError("must be a whole number") from None
    if rank < 1:
        raise ValueError("must be 1 or more; leave it out to leave these layers alone")
    return rank


def read_alpha(text: str) -> float:
    """An alpha: 0 (the same as the rank) or more."""
    alpha = read_number(text)
    if not 0 <= alpha < float("inf"):
        raise ValueError("must be 0 or more")
    return alpha


def read_dropout(text: str) -> float:
    """A share below 1."""
    share = read_number(text)
    if not 0 <= share < 1:
        raise ValueError("must be from 0 up to, but not including, 1")
    return share


def read_number(text: str) -> float:
    """A number, however it is written."""
    try:
        return float(text)
    except ValueError:
        raise ValueError("must be a number") from None


READERS = {"conv_dim": read_rank, "conv_alpha": read_alpha, "rank_dropout": read_dropout, "module_dropout": read_dropout}

# Keys that other trainers' networks take. Whoever writes one expects an effect, so it is never passed over.
KNOWN_ELSEWHERE = (
    "block_dims", "block_alphas", "conv_block_dims", "conv_block_alphas", "down_lr_weight", "mid_lr_weight", "up_lr_weight",
    "block_lr_zero_threshold", "loraplus_lr_ratio", "loraplus_unet_lr_ratio", "loraplus_text_encoder_lr_ratio",
    "algo", "preset", "factor", "use_tucker", "use_scalar", "dora_wd", "train_norm", "decompose_both", "unit")


def check_network_args(options: NetworkOptions) -> list[str]:
    """What is wrong with the network's settings, a sentence each; the header of the network_weights file included."""
    from backend.methods.network.file import check_network_file

    try:
        arguments = read_network_args(options)
    except Faults as faults:
        return faults.messages
    return check_network_file(options, arguments) if options.network_weights else []


def read_network_args(options: NetworkOptions) -> NetworkArguments:
    """The settings, typed. Raises Faults, all at once."""
    values, faults = {}, []
    for written in options.network_args:
        key, equals, text = (part.strip() for part in written.partition("="))
        if not equals or not key or not text:
            faults.append(f'network_args holds "{written}", but each of them must be key=value, such as conv_dim=4.')
        elif key in values:
            faults.append(f"network_args names {key} twice. Remove one of them.")
        elif key not in READERS:
            faults.append(unknown_key(key))
        else:
            values[key] = read_argument(key, text, faults)
    if "conv_alpha" in values and "conv_dim" not in values:
        faults.append("network_args: conv_alpha does nothing without conv_dim. Add conv_dim, or remove conv_alpha.")
    if faults:
        raise Faults(*faults)
    return NetworkArguments(**values)


def read_argument(key: str, text: str, faults: list[str]):
    """The value of one key, or None with a fault added."""
    try:
        return READERS[key](text)
    except ValueError as fault:
        faults.append(f"network_args: {key} is {text}, but {fault}.")
        return None


def unknown_key(key: str) -> str:
    """What to say of a key that has no effect here."""
    if key in KNOWN_ELSEWHERE:
        return f"network_args: {key} is known to other trainers, but not built here yet. Remove it."
    return f"network_args: {key} is not known.{did_you_mean(key, READERS)} Known are {', '.join(READERS)}."
