"""Options of the loop itself."""

from typing import Literal

from backend.config.option import Options, option


class TrainingOptions(Options):
    """How long and how precisely to train."""

    max_train_steps: int = option(
        1600, "Steps to train. A step is one move of the weights.", minimum=1, example=(3, "result"), may_change=True, unit="steps")
    max_train_epochs: int | None = option(
        None, "Epochs to train: how often everything is seen. If set, it decides, and max_train_steps does not.",
        minimum=1, example=(1, "result"), may_change=True, unit="epochs")
    gradient_accumulation_steps: int = option(
        1, "Batches that are added up into one step: a larger batch for more time, not more memory.",
        minimum=1, example=(2, "result"))
    seed: int | None = option(
        None, "The number that all chance is drawn from: the same seed, the same result. Empty: one is drawn and recorded.",
        minimum=0, maximum=2**63 - 1, example=(7, "result"))
    mixed_precision: Literal["no", "bf16"] = option(
        "no", "bf16 computes in 16 bits, which needs less memory and is faster on GPUs since 2020.", example=("bf16", "result"))
    gradient_checkpointing: bool = option(
        False, "Compute parts of the forward pass twice instead of remembering them: less memory, about a third slower, the same result.",
        example=(True, "speed"))
    sdpa: bool = option(
        True, "Use torch's memory-saving attention. Off: plain attention, which needs more memory.", example=(False, "speed"), advanced=True)
    deterministic: bool = option(
        False, "On a GPU, use only kernels that give the same bytes every time. Slower. A CPU always does.",
        example=(True, "speed"), advanced=True)
