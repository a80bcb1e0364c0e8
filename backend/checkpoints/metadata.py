"""What a trained file tells of itself: the community's ss_ facts and modelspec. Imports no torch."""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping

if TYPE_CHECKING:
    from backend.models.model import FamilyFacts

# The stretch of a file that the community's first hash was made of.
LEGACY_START = 0x100000
LEGACY_SIZE = 0x10000
BLOCK = 1 << 20

MINIMAL = ("ss_v2", "ss_base_model_version", "ss_network_module", "ss_network_dim", "ss_network_alpha", "ss_network_args")

# Options whose value is told under their own name.
TOLD = (
    "output_name", "learning_rate", "unet_lr", "text_encoder_lr", "gradient_checkpointing", "gradient_accumulation_steps", "lr_warmup_steps",
    "lr_scheduler", "mixed_precision", "clip_skip", "cache_latents", "noise_offset", "max_grad_norm",
    "caption_dropout_rate", "prior_loss_weight", "min_snr_gamma")

# Options that are not built: the value that they in effect have. One that gets built is told with its own value.
IN_EFFECT = {
    "full_fp16": False, "max_token_length": None, "lowram": False, "multires_noise_iterations": None, "multires_noise_discount": None,
    "adaptive_noise_scale": None, "zero_terminal_snr": False, "caption_dropout_every_n_epochs": 0, "caption_tag_dropout_rate": 0.0,
    "face_crop_aug_range": None, "scale_weight_norms": None, "ip_noise_gamma": None, "debiased_estimation": False,
    "noise_offset_random_strength": False, "ip_noise_gamma_random_strength": False, "loss_type": "l2", "huber_schedule": None,
    "huber_scale": None, "huber_c": None, "fp8_base": False, "fp8_base_unet": False, "validation_seed": None, "validation_split": 0.0,
    "max_validation_steps": None, "validate_every_n_epochs": None, "validate_every_n_steps": None, "resize_interpolation": None}


@dataclass(frozen=True)
class FileFacts:
    """A file that training began with. A folder has no hashes."""

    name: str
    short_hash: str | None = None
    full_hash: str | None = None


@dataclass(frozen=True)
class TrainingFacts:
    """What a run knows of itself when it saves, besides its options."""

    family: "FamilyFacts"
    session_id: int
    started_at: float  # seconds since 1970
    finished_at: float
    seed: int
    steps: int  # done
    epoch: int  # begun
    total_steps: int
    total_epochs: int
    batches_per_epoch: int
    train_images: int  # uses in an epoch
    reg_images: int
    optimizer: str  # such as torch.optim.adamw.AdamW(weight_decay=0.1)
    resolution: tuple[int, int]  # width, height
    model: FileFacts
    vae: FileFacts | None = None
    data: Mapping[str, str] = field(default_factory=dict)  # what data_metadata gave


def network_metadata(config: Any, facts: TrainingFacts, method_metadata: Mapping[str, str]) -> dict[str, str]:
    """All that a network's file tells; with no_metadata only what other programs need. method_metadata: the method's own ss_ facts."""
    told = {
        **option_facts(config.values()),
        "ss_training_comment": str(config.saving.training_comment),
        **run_facts(facts),
        **method_metadata,
        **facts.data,
        **file_metadata("sd_model", "new_sd_model", facts.model),
        **file_metadata("vae", "new_vae", facts.vae),
    }
    if config.saving.no_metadata:
        told = {key: told[key] for key in MINIMAL if key in told}
    return {**told, **modelspec(config, facts)}


def option_facts(values: Mapping[str, Any]) -> dict[str, str]:
    """Options by their ss_ names; a list that is empty is told as None."""
    known = {**IN_EFFECT, **{name: values[name] for name in (*TOLD, *IN_EFFECT) if name in values}}
    return {f"ss_{name}": str(None if value == [] else value) for name, value in known.items()}


def run_facts(facts: TrainingFacts) -> dict[str, str]:
    """Counts, times and names of the run by their ss_ names."""
    told = {
        "session_id": facts.session_id, "training_started_at": facts.started_at, "training_finished_at": facts.finished_at,
        "num_train_images": facts.train_images, "num_validation_images": 0, "num_reg_images": facts.reg_images,
        "num_batches_per_epoch": facts.batches_per_epoch, "num_epochs": facts.total_epochs, "epoch": facts.epoch, "steps": facts.steps,
        "max_train_steps": facts.total_steps, "seed": facts.seed, "optimizer": facts.optimizer,
        "v2": facts.family.is_v2, "base_model_version": facts.family.base_model_version}
    return {f"ss_{name}": str(value) for name, value in told.items()}


def file_metadata(name: str, new_name: str, file: FileFacts | None) -> dict[str, str]:
    """A file's name and its short and full hash by their ss_ names; nothing where there is no file."""
    if file is None:
        return {}
    told = {f"ss_{name}_name": file.name, f"ss_{name}_hash": file.short_hash, f"ss_{new_name}_hash": file.full_hash}
    return {key: value for key, value in told.items() if value is not None}


def modelspec(config: Any, facts: TrainingFacts) -> dict[str, str]:
    """Facts by the Stability AI model specification 1.0.1 (github.com/Stability-AI/ModelSpec)."""
    told = {
        "sai_model_spec": "1.0.1",
        "architecture": f"{facts.family.architecture}/lora",
        "implementation": facts.family.lora_implementation,
        "title": config.saving.output_name,
        "resolution": "x".join(str(side) for side in facts.resolution),
        "date": datetime.fromtimestamp(int(facts.finished_at)).isoformat(),
        "prediction_type": facts.family.prediction,
    }
    clip_skip = config.values().get("clip_skip")
    if clip_skip is not None:
        told["encoder_layer"] = str(clip_skip)
    return {f"modelspec.{name}": value for name, value in told.items()}


def file_facts(path: str | None) -> FileFacts | None:
    """Name and hashes of a file, the name alone of a folder, or None where no path is given."""
    if not path:
        return None
    if not Path(path).is_file():
        return FileFacts(Path(path).name)
    return FileFacts(Path(path).name, model_hash(path), full_hash(path))


def model_hash(path: Path | str) -> str:
    """The community's short hash: 8 hex digits of the SHA-256 of 64 KiB at 1 MiB. Many files share it; it only serves to look one up."""
    with open(path, "rb") as file:
        file.seek(LEGACY_START)
        return hashlib.sha256(file.read(LEGACY_SIZE)).hexdigest()[:8]


def full_hash(path: Path | str) -> str:
    """The SHA-256 of a whole file."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            found.update(block)
    return found.hexdigest()
