"""Summaries, dots and faults of the form, as one stylesheet: a rule holds for a field whenever it appears."""

import re
from pathlib import Path
from typing import Any, Iterable, Sequence

from backend.config.commands import fields_of
from backend.config.config import Config
from backend.config.option import facts_of
from gui.text import choice_text, text


def quoted(words: str) -> str:
    """A CSS string that may stand within HTML."""
    escaped = words.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\a ").replace("\r", "").replace("<", "\\3c ").replace("\x00", "")
    return f'"{escaped}"'


def stylesheet(summaries: dict[str, str], changed: list[str], faults: dict[str, str], hidden: Sequence[str] = ()) -> str:
    """The rules. summaries: by section; changed: options with a dot; faults: sentence by option; hidden: options that cannot matter now."""
    rules = [f"#sec-{section}>button>span:first-child::after{{content:{quoted(words)}}}" for section, words in summaries.items()]
    rules += [f"#f-{name} [data-testid=block-info]::before,#f-{name} .label-text::before{{display:inline-block}}" for name in changed]
    rules += [f"#f-{name}{{display:none!important}}" for name in hidden]
    for name, words in faults.items():
        rules.append(f"#f-{name}::after{{content:{quoted(words)};display:block}}#f-{name} .info-text{{display:none}}"
                     f"#f-{name} input,#f-{name} textarea{{border-color:var(--bad)!important}}")
    return "".join(rules)


def faults_by_field(faults: list[str], names: list[str]) -> dict[str, str]:
    """The faults that belong to one field: a sentence begins with its name, or names it by and by."""
    found: dict[str, str] = {}
    for fault in faults:
        words = re.findall(r"[a-z0-9_]+", fault)
        first = fault.split(" ")[0].rstrip(":,")
        named = first if first in names else next((word for word in words if "_" in word and word in names), None)
        if named:
            found[named] = f"{found[named]} {fault}" if named in found else fault
    return found


def summaries(config: Config, language: str) -> dict[str, str]:
    """What each section says while it is folded."""
    model, data, network, training, optimizer = config.model, config.data, config.network, config.training, config.optimizer
    every = config.sampling.sample_every_n_epochs or config.sampling.sample_every_n_steps

    def say(key: str, value: object) -> str:
        return text(f"page.sum_{key}", language, value=value) if value else ""

    length = say("epochs", training.max_train_epochs) or say("steps", f"{training.max_train_steps:,}")
    said = {
        "model": [Path(model.pretrained_model_name_or_path).name],
        "data": [Path(data.train_data_dir or data.dataset_config or "").name, "×".join(map(str, data.resolution)), say("batch", data.train_batch_size)],
        "network": [say("rank", network.network_dim), say("alpha", f"{network.network_alpha:g}")],
        "training": [length, training.mixed_precision if training.mixed_precision != "no" else ""],
        "optimizer": [optimizer.optimizer_type, f"{optimizer.learning_rate:g}", choice_text("lr_scheduler", optimizer.lr_scheduler, language)],
        "noise": [say("offset", config.noise.noise_offset), say("min_snr", config.noise.min_snr_gamma)],
        "sampling": [Path(config.sampling.sample_prompts or "").name, say("every", every)],
        "saving": [say("states", config.saving.save_state), say("every", config.saving.save_every_n_epochs or config.saving.save_every_n_steps)]}
    return {section: " · ".join(part for part in parts if part) for section, parts in said.items()}


def changed_fields(fields: dict[str, Any], basis: dict[str, Any]) -> list[str]:
    """The fields that differ from the preset."""
    return [name for name, value in fields.items() if str(value).strip() != str(basis[name]).strip()]


def idle_fields(config: Config, names: Iterable[str], given: Iterable[str]) -> list[str]:
    """The fields that cannot matter while another option is off, unless somebody has set them all the same."""
    values, kept = config.values(), set(given)
    switches = {name: facts_of(fields_of(config.command)[name][1]).shown_when for name in names}
    return [name for name, switch in switches.items() if switch and not values[switch] and name not in kept]
