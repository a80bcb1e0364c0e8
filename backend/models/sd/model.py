"""Stable Diffusion 1.x: a CLIP text encoder, a UNet, and a VAE with 8 pixels per latent."""

from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from backend.faults import Faults
from backend.models.model import Conditioning, DiffusionModel, FamilyFacts, LatentDistribution, LatentShape, NetworkTarget
from backend.models.recognise import read_description, recognise
from backend.models.sd import checkpoint
from backend.models.sd.options import SDOptions
from backend.models.tensors import read_tensors
from backend.models.tokens import CLIP_LENGTH, END_ID, tokenize_clip
from backend.noise.ddpm import DDPM

FACTS = FamilyFacts(base_model_version="sd_v1", architecture="stable-diffusion-v1", resolution=512, lora_implementation="diffusers")
FACTS_V = replace(FACTS, base_model_version="sd_v1_v", prediction="v")
TEXT_PREFIX = "lora_te_text_model_"  # text_model is part of the name although transformers no longer has such a module
TEXT_LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


@dataclass
class Parts:
    """What a file or folder held."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    facts: FamilyFacts = FACTS


class SDModel(DiffusionModel):
    """A Stable Diffusion 1.x model of any size."""

    denoiser = "unet"
    text_encoders = ("text_encoder",)

    def __init__(self, parts: Parts, options: SDOptions):
        self.parts = {"text_encoder": parts.text_encoder, "unet": parts.unet, "vae": parts.vae}
        self.facts = parts.facts
        self.options = options
        levels = len(parts.vae.config.block_out_channels)
        self.latents = LatentShape(parts.vae.config.latent_channels, 2 ** (levels - 1), parts.vae.config.scaling_factor)
        for part in self.parts.values():
            part.requires_grad_(False).eval()

    @classmethod
    def load(cls, source: Path, options: SDOptions, dtype: torch.dtype, vae: Path | None = None) -> "SDModel":
        """Read a .safetensors or .ckpt file or a Diffusers folder, on the CPU. UNet and text encoder get dtype, the VAE float32. Raises Faults."""
        source = Path(source)
        parts = read_folder(source, dtype, vae) if source.is_dir() else read_checkpoint(source, dtype, vae)
        check_fit(parts, options, source, vae)
        return cls(parts, options)

    @staticmethod
    def tokenize(captions: Sequence[str]) -> dict[str, Tensor]:
        """int64 [B, 77]. It needs no model, so a loader process can have it without one."""
        return {"text_encoder": torch.from_numpy(tokenize_clip(captions, pad_id=END_ID))}

    def encode_text(self, tokens: dict[str, Tensor]) -> Conditioning:
        """States [B, 77, width] of the last layer, or of the one that clip_skip names, after the final norm."""
        encoder = self.parts["text_encoder"]
        ids = tokens["text_encoder"].to(encoder.device)
        layers_from_end = self.options.clip_skip or 1
        if layers_from_end == 1:
            return Conditioning({"states": encoder(ids).last_hidden_state})
        states = encoder(ids, output_hidden_states=True).hidden_states[-layers_from_end]
        return Conditioning({"states": encoder.final_layer_norm(states)})

    @torch.no_grad()
    def encode_images(self, pixels: Tensor) -> LatentDistribution:
        """Always in float32: half precision overflows in this VAE."""
        vae = self.parts["vae"]
        with torch.autocast(vae.device.type, enabled=False):
            found = vae.encode(pixels.to(vae.device, torch.float32)).latent_dist
        return LatentDistribution(found.mean, found.logvar)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] about -1..1, float32; not clipped."""
        vae = self.parts["vae"]
        with torch.autocast(vae.device.type, enabled=False):
            return vae.decode(self.latents.denormalise(latents.to(vae.device, torch.float32))).sample

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """[B, 4, h, w] in the number format of noisy. t: int [B]."""
        unet = self.parts["unet"]
        states = conditioning.tensors["states"].to(unet.dtype)
        return unet(noisy.to(unet.dtype), t.to(noisy.device), encoder_hidden_states=states).sample.to(noisy.dtype)

    def noise_process(self, options: Any) -> DDPM:
        """1000 noise levels. options: NoiseOptions."""
        return DDPM(options, self.facts.prediction)

    def network_targets(self) -> list[NetworkTarget]:
        """72 layers of the text encoder and 192 of the UNet, 278 with those outside attention, in a model of the usual size."""
        return text_targets(self.parts["text_encoder"]) + unet_targets(self.parts["unet"])

    def save_memory(self, gradient_checkpointing: bool, sdpa: bool) -> None:
        """Activations are computed twice only in train mode, which changes nothing else here: no part has dropout."""
        unet, text_encoder, vae = self.parts["unet"], self.parts["text_encoder"], self.parts["vae"]
        for part in (unet, vae):
            part.set_attn_processor(AttnProcessor2_0() if sdpa else AttnProcessor())
        text_encoder.set_attn_implementation("sdpa" if sdpa else "eager")
        if gradient_checkpointing:
            unet.enable_gradient_checkpointing()
            text_encoder.activation_checkpointing_enable({"use_reentrant": False})
        else:
            unet.disable_gradient_checkpointing()
            text_encoder.activation_checkpointing_disable()
        for part in (unet, text_encoder):
            part.train(gradient_checkpointing)


def text_targets(encoder: nn.Module) -> list[NetworkTarget]:
    """The linear layers of a CLIP text encoder."""
    layers = [(path, module) for path, module in encoder.named_modules() if path.split(".")[-1] in TEXT_LAYERS]
    return [NetworkTarget(TEXT_PREFIX + path.replace(".", "_"), "text_encoder", module, True) for path, module in layers]


def unet_targets(unet: nn.Module) -> list[NetworkTarget]:
    """The linear layers and convolutions below transformers, then those of the blocks around them."""
    inside = layers_below(unet, (Transformer2DModel,))
    around = layers_below(unet, (ResnetBlock2D, Downsample2D, Upsample2D))
    return [NetworkTarget("lora_unet_" + path.replace(".", "_"), "unet", module, layers is inside)
            for layers in (inside, around) for path, module in layers.items()]


def layers_below(root: nn.Module, kinds: tuple[type, ...]) -> dict[str, nn.Module]:
    """Linear layers and convolutions by path, below modules of some kinds."""
    found = {}
    for path, parent in root.named_modules():
        if isinstance(parent, kinds):
            found.update({f"{path}.{name}": module for name, module in parent.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))})
    return found


def read_checkpoint(source: Path, dtype: torch.dtype, vae: Path | None) -> Parts:
    """A file in the original layout."""
    tensors = read_tensors(source)
    return Parts(
        unet=read_unet(tensors, source, dtype), text_encoder=read_text_encoder(tensors, source, dtype),
        vae=read_vae(vae) if vae else vae_from(tensors, source))


def read_unet(tensors: dict[str, Tensor], source: Path, dtype: torch.dtype) -> UNet2DConditionModel:
    """The denoiser of a checkpoint."""
    with told_as_fault(source, "UNet"):
        sizes = checkpoint.unet_sizes(checkpoint.shapes_of(checkpoint.below(tensors, checkpoint.UNET)))
        weights = checkpoint.unet_weights(tensors)
        return filled(lambda: UNet2DConditionModel(**sizes.config()), weights, dtype, "UNet", source)


def read_text_encoder(tensors: dict[str, Tensor], source: Path, dtype: torch.dtype) -> CLIPTextModel:
    """The text encoder of a checkpoint."""
    with told_as_fault(source, "text encoder"):
        weights = checkpoint.text_weights(tensors)
        sizes = checkpoint.text_sizes(checkpoint.shapes_of(weights))
        encoder = filled(lambda: CLIPTextModel(CLIPTextConfig(**sizes.config())), weights, dtype, "text encoder", source)
    # This table of plain numbers is no weight, so it is not in the file.
    encoder.embeddings.position_ids = torch.arange(sizes.positions)[None]
    return encoder


def vae_from(tensors: dict[str, Tensor], source: Path) -> AutoencoderKL:
    """The VAE of a checkpoint or of a VAE file."""
    with told_as_fault(source, "VAE"):
        weights = checkpoint.vae_weights(tensors)
        sizes = checkpoint.vae_sizes(checkpoint.shapes_of(weights))
        return filled(lambda: AutoencoderKL(**sizes.config()), weights, torch.float32, "VAE", source)


@contextmanager
def told_as_fault(source: Path, part: str) -> Iterator[None]:
    """A context in which a name that is not in the file becomes a sentence."""
    try:
        yield
    except KeyError as error:
        raise Faults(f"{source} holds no {part} of a Stable Diffusion 1.x model: {error.args[0]} is missing.") from None


def filled(make: Callable[[], nn.Module], weights: dict[str, Tensor], dtype: torch.dtype, part: str, source: Path) -> nn.Module:
    """A module whose weights are copies of those of a file. It is made without memory first, so nothing is held twice."""
    with torch.device("meta"):
        module = make()
    wanted = checkpoint.fitted(weights, checkpoint.shapes_of(module.state_dict()), part, source)
    module.load_state_dict({name: tensor.to(dtype, copy=True).contiguous() for name, tensor in wanted.items()}, assign=True)
    return module


def read_vae(path: Path) -> AutoencoderKL:
    """Another VAE: of a checkpoint, a file of its own, or a Diffusers folder."""
    kind = recognise(path).kind
    if kind == "diffusers folder":
        return read_part(AutoencoderKL, path / "vae", torch.float32)
    if kind == "diffusers vae folder":
        return read_part(AutoencoderKL, path, torch.float32)
    return vae_from(read_tensors(path), path)


def read_folder(source: Path, dtype: torch.dtype, vae: Path | None) -> Parts:
    """A folder in Diffusers layout."""
    scheduler = source / "scheduler" / "scheduler_config.json"
    predicts_v = scheduler.exists() and read_description(scheduler).get("prediction_type") == "v_prediction"
    return Parts(
        unet=read_part(UNet2DConditionModel, source / "unet", dtype), text_encoder=read_part(CLIPTextModel, source / "text_encoder", dtype),
        vae=read_vae(vae) if vae else read_part(AutoencoderKL, source / "vae", torch.float32), facts=FACTS_V if predicts_v else FACTS)


def read_part(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """One part of a Diffusers folder, read from this machine only. Files that could run something are refused."""
    files = [file.name for file in folder.glob("*") if file.suffix in (".safetensors", ".bin")]
    variant = "fp16" if files and all(".fp16" in name for name in files) else None
    try:
        module, info = kind.from_pretrained(folder, torch_dtype=dtype, variant=variant, local_files_only=True, output_loading_info=True)
    except Exception as error:  # the libraries raise many kinds; all mean that the folder is not as it should be
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise Faults(f"{folder} cannot be read as a {kind.__name__}: {reason[0]}") from error
    if info["missing_keys"]:  # the libraries would go on with random weights
        raise Faults(f"{folder} lacks {len(info['missing_keys'])} weights, among them {', '.join(sorted(info['missing_keys'])[:3])}. Download it again.")
    return module.to(dtype)


def check_fit(parts: Parts, options: SDOptions, source: Path, vae: Path | None) -> None:
    """Parts from different files, and options, must go together. Raises Faults."""
    faults = []
    text = parts.text_encoder.config
    latents, wanted = parts.vae.config.latent_channels, parts.unet.config.in_channels
    if latents != wanted or parts.unet.config.out_channels != wanted:
        faults.append(f"{vae or source}: the VAE makes latents of {latents} channels, but the UNet reads {wanted} and writes {parts.unet.config.out_channels}.")
    if text.hidden_size != parts.unet.config.cross_attention_dim:
        faults.append(f"{source}: the text encoder's states are {text.hidden_size} wide, but the UNet reads {parts.unet.config.cross_attention_dim}.")
    if text.vocab_size <= END_ID or text.max_position_embeddings < CLIP_LENGTH:
        faults.append(f"{source}: the text encoder knows {text.vocab_size} tokens at {text.max_position_embeddings} places; CLIP's vocabulary needs {END_ID + 1} and {CLIP_LENGTH}.")
    if options.clip_skip and options.clip_skip > text.num_hidden_layers:
        faults.append(f"clip_skip is {options.clip_skip}, but the text encoder of {source} has {text.num_hidden_layers} layers.")
    if faults:
        raise Faults(*faults)
