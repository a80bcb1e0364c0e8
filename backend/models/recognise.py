"""What a file or folder holds, told by the names and shapes inside it, never by its own name. Needs no torch."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Mapping

from backend.faults import Faults
from backend.models.headers import read_header

Kind = Literal["checkpoint", "diffusers folder", "vae", "diffusers vae folder", "lora", "embedding", "controlnet", "part", "unknown"]
UNET = "model.diffusion_model."
VAE = "first_stage_model."
# In words, for messages.
KINDS = {
    "checkpoint": "a whole model", "diffusers folder": "a whole model in a Diffusers folder", "vae": "a VAE", "diffusers vae folder": "a VAE in a Diffusers folder",
    "lora": "a network (LoRA)", "embedding": "a textual inversion embedding", "controlnet": "a ControlNet", "part": "one part of a Diffusers model",
    "unknown": "something unknown"}
FAMILIES = {
    "sd": "Stable Diffusion 1.x", "sd2": "Stable Diffusion 2.x", "sdxl": "SDXL", "sdxl_refiner": "SDXL refiner", "sd3": "Stable Diffusion 3", "flux": "Flux",
    "inpainting": "Stable Diffusion inpainting", "": "unknown"}
LORA_MARKS = (
    ".lora_down.", ".lora_up.", ".lora_A.", ".lora_B.", ".lora.down.", ".lora.up.", ".lora_linear_layer.", ".hada_w1_a", ".lokr_w1", ".oft_blocks", ".oft_diag", ".dora_scale")
INPAINTING_CHANNELS = (8, 9)  # the picture to be changed, and for some its mask, beside the noisy latents
# A checkpoint's further parts, by how the names of their weights begin.
FURTHER_PARTS = {"text encoder": ("cond_stage_model.", "conditioner.", "text_encoders."), "VAE": (VAE,)}
FOLDER_FAMILIES = {"SD3Transformer2DModel": "sd3", "FluxTransformer2DModel": "flux"}


@dataclass(frozen=True)
class Recognised:
    """What was found. family is a key of FAMILIES, "" where it is not known or makes no difference. lacking: parts that a checkpoint is without."""

    path: Path
    kind: Kind
    family: str = ""
    lacking: tuple[str, ...] = ()

    def in_words(self) -> str:
        """Such as "a whole model of the SDXL family"."""
        return KINDS[self.kind] + (f" of the {FAMILIES[self.family]} family" if self.family else "")


def recognise(path: Path) -> Recognised:
    """Tell what a file or folder holds. Raises Faults where it is missing or cannot be read."""
    path = Path(path)
    if path.is_dir():
        return recognise_folder(path)
    shapes = read_header(path).shapes
    kind = kind_of(shapes)
    if kind != "checkpoint":
        return Recognised(path, kind)
    lacking = tuple(part for part, prefixes in FURTHER_PARTS.items() if not any(name.startswith(prefixes) for name in shapes))
    return Recognised(path, kind, family_of(shapes), lacking)


def kind_of(shapes: Mapping[str, tuple[int, ...]]) -> Kind:
    """Which kind of file has these names."""
    if any(mark in name for name in shapes for mark in LORA_MARKS):
        return "lora"
    if is_embedding(shapes):
        return "embedding"
    if any("input_hint_block" in name or name.startswith(("control_model.", "controlnet_")) for name in shapes):
        return "controlnet"
    if any(name.startswith((UNET, "double_blocks.", "joint_blocks.")) for name in shapes):
        return "checkpoint"
    if any(name.startswith(VAE) for name in shapes) or {"encoder.conv_in.weight", "decoder.conv_in.weight"} <= set(shapes):
        return "vae"
    if is_diffusers_part(shapes):
        return "part"
    return "unknown"


def is_embedding(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Vectors for one word: by the names of A1111 and its successors, or a lone table as Diffusers writes it."""
    if "emb_params" in shapes or {"clip_l", "clip_g"} & set(shapes) or any(name.startswith("string_to_param.") for name in shapes):
        return True
    return len(shapes) == 1 and all(name.startswith("<") and len(shape) <= 2 for name, shape in shapes.items())


def is_diffusers_part(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """A denoiser or text encoder on its own."""
    return any(name.startswith(("down_blocks.", "transformer_blocks.", "single_transformer_blocks.", "text_model.encoder.layers.")) for name in shapes)


def family_of(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Which family a checkpoint in the original layout belongs to."""
    bare = {name.removeprefix(UNET) for name in shapes}
    if any(name.startswith("joint_blocks.") for name in bare):
        return "sd3"
    if any(name.startswith("double_blocks.") for name in bare):
        return "flux"
    if "conditioner.embedders.1.model.ln_final.weight" in shapes:
        return "sdxl"
    if "label_emb.0.0.weight" in bare:
        return "sdxl_refiner" if "conditioner.embedders.0.model.ln_final.weight" in shapes else "sdxl"
    if shapes.get(f"{UNET}input_blocks.0.0.weight", (0, 0))[1] in INPAINTING_CHANNELS:
        return "inpainting"
    if any(name.startswith("cond_stage_model.model.") for name in shapes):
        return "sd2"
    return "sd" if f"{UNET}input_blocks.0.0.weight" in shapes else ""


def recognise_folder(path: Path) -> Recognised:
    """Tell what a folder in Diffusers layout holds, by its descriptions."""
    if (path / "model_index.json").exists():
        return Recognised(path, "diffusers folder", folder_family(path))
    if (path / "config.json").exists() and read_description(path / "config.json").get("_class_name") == "AutoencoderKL":
        return Recognised(path, "diffusers vae folder")
    if (path / "config.json").exists():
        return Recognised(path, "part")
    raise Faults(f"{path} is a folder without model_index.json, so it is not a model in Diffusers layout. Name a model file, or the folder that holds model_index.json.")


def folder_family(path: Path) -> str:
    """Which family a Diffusers folder belongs to."""
    index = read_description(path / "model_index.json")
    if "transformer" in index:
        return FOLDER_FAMILIES.get(str((index["transformer"] or [None, None])[-1]), "")
    if "unet" not in index:
        return ""
    unet = read_description(path / "unet" / "config.json")
    if "text_encoder_2" in index:
        return "sdxl" if has_part(index, "text_encoder") else "sdxl_refiner"
    if unet.get("in_channels", 4) in INPAINTING_CHANNELS:
        return "inpainting"
    # OpenCLIP, the text encoder of 2.x, uses plain GELU; CLIP has its own.
    if read_description(path / "text_encoder" / "config.json").get("hidden_act", "quick_gelu") != "quick_gelu":
        return "sd2"
    return "sd"


def has_part(index: Mapping, name: str) -> bool:
    """Whether model_index.json names a part; [null, null] stands for none."""
    return bool(index.get(name)) and index[name][0] is not None


def read_description(path: Path) -> dict:
    """A JSON file of a Diffusers folder. Raises Faults."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Faults(f"{path} does not exist, so the folder is not a whole model. Download it again.") from None
    except (OSError, ValueError):
        raise Faults(f"{path} is damaged. Download it again.") from None
    if not isinstance(found, dict):
        raise Faults(f"{path} is damaged. Download it again.")
    return found
