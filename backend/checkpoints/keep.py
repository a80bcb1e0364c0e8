"""Names of saved files, and which of them have had their time. Imports no torch."""

import re
from typing import Iterable

from backend.checkpoints.options import SavingOptions


def stem(output_name: str, epoch: int | None = None, step: int | None = None) -> str:
    """A saved file's name without ending: of an epoch, of a step, or (neither given) of the whole run."""
    if epoch is not None:
        return f"{output_name}-{epoch:06d}"
    if step is not None:
        return f"{output_name}-step{step:08d}"
    return output_name


def weights_name(options: SavingOptions, epoch: int | None = None, step: int | None = None) -> str:
    """The name of trained weights."""
    return f"{stem(options.output_name, epoch, step)}.{options.save_model_as}"


def state_name(options: SavingOptions, epoch: int | None = None, step: int | None = None) -> str:
    """The name of a state folder."""
    return f"{stem(options.output_name, epoch, step)}-state"


def outdated(names: Iterable[str], options: SavingOptions, epoch: int | None = None, step: int | None = None) -> list[str]:
    """Which of these names (files and state folders) to remove, once those of this epoch or step are saved.

    Of epochs the last save_last_n_epochs files stay. Of steps those stay that are at most save_last_n_steps old. Names of
    another output_name, ending or kind are never among the answer, nor those of later epochs or steps.
    """
    if epoch is not None:
        return by_epoch(list(names), options, epoch)
    if step is not None:
        return by_step(list(names), options, step)
    return []


def by_epoch(names: list[str], options: SavingOptions, epoch: int) -> list[str]:
    """What the end of an epoch makes outdated."""
    every = options.save_every_n_epochs or 1
    keep, keep_states = options.save_last_n_epochs, options.save_last_n_epochs_state or options.save_last_n_epochs
    last = epoch - every * keep if keep else None
    last_state = epoch - every * keep_states if keep_states else None
    number = r"-([0-9]{6}|[1-9][0-9]{6,})"
    return older(names, options, number, last) + older_states(names, options, number, last_state)


def by_step(names: list[str], options: SavingOptions, step: int) -> list[str]:
    """What a step makes outdated."""
    keep, keep_states = options.save_last_n_steps, options.save_last_n_steps_state or options.save_last_n_steps
    last = step - keep - 1 if keep else None
    last_state = step - keep_states - 1 if keep_states else None
    number = r"-step([0-9]{8}|[1-9][0-9]{8,})"
    return older(names, options, number, last) + older_states(names, options, number, last_state)


def older(names: list[str], options: SavingOptions, number: str, last: int | None) -> list[str]:
    """Weights numbered up to last."""
    return numbered(names, f"{re.escape(options.output_name)}{number}" + re.escape(f".{options.save_model_as}"), last)


def older_states(names: list[str], options: SavingOptions, number: str, last: int | None) -> list[str]:
    """State folders numbered up to last."""
    return numbered(names, f"{re.escape(options.output_name)}{number}-state", last)


def numbered(names: list[str], pattern: str, last: int | None) -> list[str]:
    """The names that match exactly, with a number up to last."""
    if last is None:
        return []
    found = ((name, re.fullmatch(pattern, name)) for name in names)
    return [name for name, match in found if match and int(match[1]) <= last]
