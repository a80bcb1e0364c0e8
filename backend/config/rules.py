"""Rules between options. What a single option may be stands at its declaration; what files hold is looked at by the door."""

import os
import re
from pathlib import Path
from typing import Callable, Iterable

from backend.checkpoints.manifest import find_state, parse_manifest
from backend.checkpoints.options import SavingOptions
from backend.config.commands import fields_of
from backend.config.config import Config
from backend.config.option import default_of, facts_of
from backend.config.values import shown
from backend.faults import Faults

Rule = Callable[[Config], Iterable[str]]

KEEP = {  # what keeps the last ones: what saves them
    "save_last_n_epochs": "save_every_n_epochs", "save_last_n_epochs_state": "save_every_n_epochs",
    "save_last_n_steps": "save_every_n_steps", "save_last_n_steps_state": "save_every_n_steps"}
SAMPLE_TRIGGERS = ("sample_every_n_epochs", "sample_every_n_steps", "sample_at_first")


def rule_faults(config: Config) -> list[str]:
    """What is wrong between the options of a training command, in full sentences."""
    return [fault for rule in FAULTS for fault in rule(config)]


def rule_warnings(config: Config) -> list[str]:
    """What is allowed, but hardly meant."""
    return [warning for rule in WARNINGS for warning in rule(config)]


def only_one_part(config: Config) -> Iterable[str]:
    """Each of the two switches leaves out what the other one trains."""
    if config.network.network_train_unet_only and config.network.network_train_text_encoder_only:
        yield "network_train_unet_only and network_train_text_encoder_only are both on, so nothing would be trained; switch one of them off."


def something_to_keep(config: Config) -> Iterable[str]:
    """Only what is saved along the way can be thinned out."""
    for keep, save in KEEP.items():
        if getattr(config.saving, keep) is not None and getattr(config.saving, save) is None:
            yield f"{keep} is {getattr(config.saving, keep)}, but nothing is saved along the way; give {save} too."


def prompts_to_draw(config: Config) -> Iterable[str]:
    """Samples need prompts."""
    triggers = [name for name in SAMPLE_TRIGGERS if getattr(config.sampling, name)]
    if triggers and not config.sampling.sample_prompts:
        yield f"{' and '.join(triggers)} asked for, but there are no prompts; name a text file with prompts as sample_prompts."


def warmup_fits(config: Config) -> Iterable[str]:
    """Warm-up needs a schedule that has one, and a run that is long enough."""
    options, warmup = config.optimizer, config.optimizer.lr_warmup_steps
    if warmup and options.lr_scheduler == "constant":
        yield f"lr_warmup_steps is {warmup}, but lr_scheduler constant has no warm-up; choose constant_with_warmup, or leave lr_warmup_steps out."
    steps = config.training.max_train_steps
    if isinstance(warmup, int) and config.training.max_train_epochs is None and warmup > steps:
        yield f"lr_warmup_steps is {warmup}, but the run has only {steps} steps (max_train_steps); give fewer, or a share such as 5%."


def folders_can_be_made(config: Config) -> Iterable[str]:
    """Output folders exist, or can be made."""
    for name, value in config.values().items():
        if facts_of(fields_of(config.command)[name][1]).path == "output folder" and value:
            yield from folder_fault(name, Path(value))


def folder_fault(name: str, folder: Path) -> Iterable[str]:
    """What stands in the way of writing to a folder."""
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(place))
    if existing == folder.absolute() and not folder.is_dir():
        yield f'{name} is "{folder}", which is a file, but must be a folder.'
    elif not existing.is_dir():
        yield f'{name} is "{folder}", but {existing} is a file, so no folder can be made in it; give another folder.'
    elif not os.access(existing, os.W_OK | os.X_OK):
        yield f'{name} is "{folder}", but nothing may be written in {existing}; give another folder, or change its permissions.'


def name_is_a_name(config: Config) -> Iterable[str]:
    """The name of the trained files names no folder."""
    name = config.saving.output_name
    if not name.strip() or name in (".", "..") or "/" in name or "\\" in name:
        yield f'output_name is "{name}", but must be a name without folders, such as cat; the folder is output_dir.'


def nothing_is_overwritten(config: Config) -> Iterable[str]:
    """The trained files and states of another run are not lost."""
    options, folder = config.saving, config.saving.output_dir or config.run.run_dir
    if options.overwrite or not folder or not os.path.isdir(folder):
        return
    taken = sorted(name for name in os.listdir(folder) if would_be_written(name, options))
    if taken and not (options.resume and wrote_here(options, Path(folder))):
        more = f" and {len(taken) - 1} more" if len(taken) > 1 else ""
        stand = "exist" if more else "exists"
        yield f"{Path(folder) / taken[0]}{more} {stand} already; give another output_name or output_dir, or overwrite to replace what is there."


def wrote_here(options: SavingOptions, folder: Path) -> bool:
    """Whether the run that is resumed had its files in this folder; also true where it cannot be resumed, which is told elsewhere."""
    try:
        state = find_state(options.resume, options.output_name)
        settings = parse_manifest(state)["settings"]
    except Faults:
        return True
    earlier = settings.get("output_dir") or settings.get("run_folder") or state.parent
    return folder.resolve() in (Path(earlier).resolve(), state.resolve().parent)


def would_be_written(name: str, options: SavingOptions) -> bool:
    """Whether a run may write a file or state of this name."""
    numbers = [(r"", 1)]
    if options.save_every_n_epochs:
        numbers.append((r"-(\d{6,})", options.save_every_n_epochs))
    if options.save_every_n_steps:
        numbers.append((r"-step(\d{8,})", options.save_every_n_steps))
    endings = [re.escape(f".{options.save_model_as}")]
    if options.save_state or options.save_state_on_train_end:
        endings.append("-state")
    for number, every in numbers:
        match = re.fullmatch(f"{re.escape(options.output_name)}{number}(?:{'|'.join(endings)})", name)
        if match and (not number or int(match[1]) % every == 0):
            return True
    return False


def samples_have_a_time(config: Config) -> Iterable[str]:
    """Prompts alone draw nothing."""
    if config.sampling.sample_prompts and not any(getattr(config.sampling, name) for name in SAMPLE_TRIGGERS):
        yield "sample_prompts is given, but nothing is drawn without sample_every_n_epochs, sample_every_n_steps or sample_at_first."


def states_to_keep(config: Config) -> Iterable[str]:
    """Thinning out states needs states."""
    names = [name for name in ("save_last_n_epochs_state", "save_last_n_steps_state") if getattr(config.saving, name) is not None]
    if names and not config.saving.save_state:
        yield f"{' and '.join(names)} changes nothing, since save_state is off."


def rates_were_chosen(config: Config) -> Iterable[str]:
    """The default learning rate is far too small for a network."""
    options = config.network
    unchosen = []
    if options.unet_lr is None and not options.network_train_text_encoder_only:
        unchosen.append("the UNet")
    if not options.text_encoder_lr and not options.network_train_unet_only:
        unchosen.append("the text encoder")
    if unchosen and "learning_rate" not in config.given:
        rate = config.optimizer.learning_rate
        yield f"learning_rate is not given, so {' and '.join(unchosen)} hardly learns, at {rate}; 1e-4 is usual for a LoRA."


def given_options_matter(config: Config) -> Iterable[str]:
    """An option that was set under another that is off."""
    values = config.values()
    for name in sorted(config.given):
        group, field = fields_of(config.command)[name]
        needed = facts_of(field).shown_when
        # A dataset file may switch on, for some of its pictures, what is off here.
        elsewhere = config.data.dataset_config and name in type(config.data).model_fields
        if needed and not values[needed] and not elsewhere and values[name] != default_of(field, config.command):
            state = "off" if values[needed] is False else "not given"
            yield f"{name} is {shown(values[name])}, which changes nothing while {needed} is {state}."


FAULTS: tuple[Rule, ...] = (
    only_one_part, something_to_keep, prompts_to_draw, warmup_fits, folders_can_be_made, name_is_a_name, nothing_is_overwritten)
WARNINGS: tuple[Rule, ...] = (samples_have_a_time, states_to_keep, rates_were_chosen, given_options_matter)
