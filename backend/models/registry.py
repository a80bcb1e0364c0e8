"""From options to a loaded model. Families are imported only when one is loaded."""

import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.faults import FaultList, Faults
from backend.models.options import ModelOptions
from backend.models.recognise import FAMILIES, Recognised, recognise

if TYPE_CHECKING:
    import torch

    from backend.models.model import DiffusionModel

MODEL_KINDS = ("checkpoint", "diffusers folder")
VAE_KINDS = ("vae", "diffusers vae folder", *MODEL_KINDS)
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Family:
    """Where a family's class is, and which group of options is its own."""

    module: str
    name: str
    group: str


BUILT = {"sd": Family("backend.models.sd.model", "SDModel", "sd")}


def load_model(config: Any, dtype: "torch.dtype") -> "DiffusionModel":
    """The model that the options name, on the CPU, with its own number format dtype and the VAE in float32. Raises Faults."""
    faults = check_model_files(config)
    if faults:
        raise Faults(*faults)
    source = Path(config.model.pretrained_model_name_or_path)
    family = BUILT[recognise(source).family]
    model_class = getattr(import_module(family.module), family.name)
    return model_class.load(source, getattr(config, family.group), dtype, vae=Path(config.model.vae) if config.model.vae else None)


def check_model_files(config: Any) -> list[str]:
    """What is wrong with the files that the options name, in sentences; quick, and without torch."""
    options: ModelOptions = config.model
    faults = FaultList()
    faults.extend(model_faults(options.pretrained_model_name_or_path, needed=("text encoder",) if options.vae else ("text encoder", "VAE")))
    if options.vae:
        faults.extend(vae_faults(options.vae))
    return faults.messages


def model_faults(name: str, needed: tuple[str, ...]) -> list[str]:
    """What is wrong with the model to start from. needed: parts that it must hold beside the denoiser."""
    option = "pretrained_model_name_or_path"
    if not name:
        return [f"{option} is empty. Name a .safetensors or .ckpt file, or a folder in Diffusers layout."]
    found = recognised_or_faults(option, name)
    if isinstance(found, list):
        return found
    if found.kind not in MODEL_KINDS:
        return [f"{option} is {name}, which is {found.in_words()}, but must be a whole model."]
    if not found.family:
        return [f"{option} is {name}, a model of a family that is not known. {built_families()}"]
    if found.family not in BUILT:
        article = "an" if FAMILIES[found.family].startswith("SD") else "a"
        return [f"{option} is {name}. This is {article} {FAMILIES[found.family]} model, which is not built here yet. {built_families()}"]
    return [lacking_fault(name, part) for part in found.lacking if part in needed]


def lacking_fault(name: str, part: str) -> str:
    """A checkpoint without a part, and what to do."""
    remedy = "Name the whole model, or give a VAE of its own by the option vae." if part == "VAE" else "Name the whole model."
    return f"pretrained_model_name_or_path is {name}, which holds no {part}. {remedy}"


def vae_faults(name: str) -> list[str]:
    """What is wrong with the VAE."""
    found = recognised_or_faults("vae", name)
    if isinstance(found, list):
        return found
    if found.kind not in VAE_KINDS:
        return [f"vae is {name}, which is {found.in_words()}, but must hold a VAE."]
    return []


def recognised_or_faults(option: str, name: str) -> Recognised | list[str]:
    """What a path holds, or why that cannot be told."""
    path = Path(name)
    if path.exists():
        try:
            return recognise(path)
        except Faults as faults:
            return [f"{option}: {message}" for message in faults.messages]
    if HUB_ID.fullmatch(name) and not path.suffix and not name.startswith("."):
        return [f"{option} is {name}, and there is no such file or folder here. If it is a name on a hub: downloading is not built yet. Give a file or a folder."]
    return [f"{option} is {name}, which does not exist."]


def built_families() -> str:
    """Which families can be trained, as a sentence."""
    return "Built are: " + ", ".join(FAMILIES[family] for family in BUILT) + "."
