"""Whether the optimizer's options make sense, before anything is loaded. Imports no torch."""

import ast
from importlib.util import find_spec
from typing import Any, Callable

from backend.faults import Faults, did_you_mean
from backend.optimizers.options import OptimizerOptions

# Where transformers' polynomial schedule ends; the learning rate must start above it.
POLYNOMIAL_END = 1e-7

Check = Callable[[Any], str]  # says what a value must be, or nothing where it is right


def is_number(value: Any) -> bool:
    """Whether it is a number, and not True or False."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def from_zero(value: Any) -> str:
    """A finite number from 0 up."""
    return "" if is_number(value) and 0 <= value < float("inf") else "must be a number, 0 or more"


def two_shares(value: Any) -> str:
    """Two numbers from 0 up to 1, such as .9,.999."""
    fits = isinstance(value, (tuple, list)) and len(value) == 2 and all(is_number(part) and 0 <= part < 1 for part in value)
    return "" if fits else "must be two numbers from 0 up to, but not including, 1, such as betas=.9,.999"


def yes_or_no(value: Any) -> str:
    """True or False."""
    return "" if isinstance(value, bool) else "must be True or False"


def whole_number(value: Any) -> str:
    """A whole number from 0 up."""
    return "" if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else "must be a whole number, 0 or more"


USUAL: dict[str, Check] = {"betas": two_shares, "eps": from_zero, "weight_decay": from_zero}
ARGUMENTS: dict[str, dict[str, Check]] = {
    "AdamW": {**USUAL, "amsgrad": yes_or_no, "foreach": yes_or_no, "fused": yes_or_no},
    "AdamW8bit": {**USUAL, "min_8bit_size": whole_number},
}


def check_optimizer(options: OptimizerOptions) -> list[str]:
    """What is wrong with the optimizer's options, a sentence each."""
    faults = []
    try:
        read_optimizer_args(options)
    except Faults as found:
        faults += found.messages
    if options.optimizer_type == "AdamW8bit" and find_spec("bitsandbytes") is None:
        faults.append("optimizer_type AdamW8bit needs the package bitsandbytes. Install it (pip install bitsandbytes), or choose AdamW.")
    if options.lr_scheduler == "polynomial" and options.learning_rate <= POLYNOMIAL_END:
        faults.append(f"lr_scheduler polynomial falls to {POLYNOMIAL_END}, so learning_rate must be more than that, but is {options.learning_rate}.")
    return faults


def read_optimizer_args(options: OptimizerOptions) -> dict[str, Any]:
    """optimizer_args as keyword arguments, their values read as Python writes them. Raises Faults, all at once."""
    known = ARGUMENTS[options.optimizer_type]
    values, faults = {}, []
    for written in options.optimizer_args:
        key, equals, text = (part.strip() for part in written.partition("="))
        if not equals or not key or not text or "=" in text:
            faults.append(f'optimizer_args holds "{written}", but each of them must be key=value, such as weight_decay=0.01.')
        elif key in values:
            faults.append(f"optimizer_args names {key} twice. Remove one of them.")
        elif key == "lr":
            faults.append("optimizer_args: lr is set by learning_rate. Remove it here.")
        elif key not in known:
            faults.append(f"optimizer_args: {key} is not known for {options.optimizer_type}.{did_you_mean(key, known)} Known are {', '.join(known)}.")
        else:
            values[key] = read_argument(key, text, known[key], faults)
    if faults:
        raise Faults(*faults)
    return values


def read_argument(key: str, text: str, check: Check, faults: list[str]) -> Any:
    """The value of one key; what is wrong with it is added to the faults."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = text
    if wrong := check(value):
        faults.append(f"optimizer_args: {key} is {text}, but {wrong}.")
    return value
