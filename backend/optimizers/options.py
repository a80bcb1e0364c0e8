"""Options of the optimizer and its learning rate."""

from typing import Literal

from backend.config.option import Options, option


def read_share(value):
    """Warm-up as written: whole steps, a share below 1, or a percentage such as "5%"."""
    text = str(value).strip()
    if isinstance(value, bool):
        raise ValueError('must be a number of steps, a share below 1, or a percentage such as "5%"')
    try:
        number = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise ValueError('must be a number of steps, a share below 1, or a percentage such as "5%"') from None
    if number < 0:
        raise ValueError("must be 0 or more")
    if text.endswith("%") or 0 < number < 1:
        if number >= 1:
            raise ValueError("must be less than 100%")
        return number
    if number != int(number):
        raise ValueError("must be a whole number of steps, or a share below 1")
    return int(number)


class OptimizerOptions(Options):
    """How the weights move."""

    optimizer_type: Literal["AdamW", "AdamW8bit"] = option(
        "AdamW", "The rule by which weights move. AdamW8bit keeps its memory of past gradients in 8 bits and so needs less of the GPU's.",
        example=("AdamW8bit", "result"))
    optimizer_args: list[str] = option(
        [], "Further settings of the optimizer, as key=value: weight_decay=0.01 betas=.9,.999",
        example=(["weight_decay=10.0"], "result"), advanced=True)
    learning_rate: float = option(
        2e-6, "How far the weights move at each step. 1e-4 is usual for a LoRA.",
        minimum=0, example=(1e-3, "result"))
    max_grad_norm: float = option(
        1.0, "Scale gradients down to this norm. 0 turns clipping off.", minimum=0, example=(1e-4, "result"), advanced=True)
    lr_scheduler: Literal["linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup"] = option(
        "constant", "How the learning rate changes over the run.", example=("cosine", "result"))
    lr_warmup_steps: int | float = option(
        0, "Let the learning rate rise from 0 over this many steps; a value below 1, or a percentage such as 5%, is a share of all steps.",
        example=(2, "result", {"lr_scheduler": "constant_with_warmup"}), read=read_share, unit="steps")
    lr_scheduler_num_cycles: int = option(
        1, "How often cosine_with_restarts starts anew.", minimum=1, example=(2, "result", {"lr_scheduler": "cosine_with_restarts"}), advanced=True)
    lr_scheduler_power: float = option(
        1.0, "The exponent of the polynomial schedule.", above=0, example=(2.0, "result", {"lr_scheduler": "polynomial"}), advanced=True)
