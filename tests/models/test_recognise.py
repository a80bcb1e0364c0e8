"""Files are told by what is in them: here by the names and shapes that real files of each kind have."""

import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file

from backend.demo.layout import SDSizes
from backend.models.options import ModelOptions
from backend.models.recognise import recognise
from backend.models.registry import check_model_files
from tests.tiny import tiny_sd_checkpoint, tiny_weights

UNET = "model.diffusion_model."
# What is enough of the names in real files, and what those are.
FILES = {
    "sd": ({f"{UNET}input_blocks.0.0.weight": (320, 4, 3, 3), "cond_stage_model.transformer.text_model.final_layer_norm.weight": (768,)}, "checkpoint", "sd"),
    "inpainting": ({f"{UNET}input_blocks.0.0.weight": (320, 9, 3, 3), "cond_stage_model.transformer.text_model.final_layer_norm.weight": (768,)}, "checkpoint", "inpainting"),
    "sd2": ({f"{UNET}input_blocks.0.0.weight": (320, 4, 3, 3), "cond_stage_model.model.ln_final.weight": (1024,)}, "checkpoint", "sd2"),
    "sdxl": ({f"{UNET}input_blocks.0.0.weight": (320, 4, 3, 3), f"{UNET}label_emb.0.0.weight": (1280, 2816), "conditioner.embedders.1.model.ln_final.weight": (1280,)},
             "checkpoint", "sdxl"),
    "refiner": ({f"{UNET}input_blocks.0.0.weight": (384, 4, 3, 3), f"{UNET}label_emb.0.0.weight": (1536, 2560), "conditioner.embedders.0.model.ln_final.weight": (1280,)},
                "checkpoint", "sdxl_refiner"),
    "sd3": ({f"{UNET}joint_blocks.0.context_block.attn.qkv.weight": (8, 8)}, "checkpoint", "sd3"),
    "flux": ({"double_blocks.0.img_attn.qkv.weight": (8, 8)}, "checkpoint", "flux"),
    "flux in a whole": ({f"{UNET}double_blocks.0.img_attn.qkv.weight": (8, 8)}, "checkpoint", "flux"),
    "vae": ({"encoder.conv_in.weight": (128, 3, 3, 3), "decoder.conv_in.weight": (512, 4, 3, 3), "encoder.down.0.block.0.norm1.weight": (8,)}, "vae", ""),
    "vae in a prefix": ({"first_stage_model.encoder.conv_in.weight": (128, 3, 3, 3)}, "vae", ""),
    "kohya lora": ({"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": (4, 8)}, "lora", ""),
    "peft lora": ({"unet.down_blocks.0.attentions.0.proj_in.lora_A.weight": (4, 8)}, "lora", ""),
    "loha": ({"lora_unet_mid_block_attentions_0_proj_in.hada_w1_a": (4, 8)}, "lora", ""),
    "lokr": ({"lora_unet_mid_block_attentions_0_proj_in.lokr_w1": (4, 8)}, "lora", ""),
    "embedding": ({"emb_params": (2, 768)}, "embedding", ""),
    "sdxl embedding": ({"clip_l": (2, 768), "clip_g": (2, 1280)}, "embedding", ""),
    "diffusers embedding": ({"<cat-toy>": (1, 768)}, "embedding", ""),
    "controlnet": ({"control_model.input_hint_block.0.weight": (16, 3, 3, 3)}, "controlnet", ""),
    "diffusers unet": ({"down_blocks.0.resnets.0.conv1.weight": (8, 8, 3, 3), "conv_in.weight": (8, 4, 3, 3)}, "part", ""),
    "something": ({"layer1.weight": (3, 3)}, "unknown", ""),
}


def write(path, shapes):
    save_file({name: np.zeros(shape, np.float16) for name, shape in shapes.items()}, path)
    return path


def faults(model, vae=None):
    return check_model_files(SimpleNamespace(model=ModelOptions(pretrained_model_name_or_path=str(model), vae=None if vae is None else str(vae))))


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_told_by_its_names_and_shapes(name, tmp_path):
    shapes, kind, family = FILES[name]
    # Its own name says the opposite.
    found = recognise(write(tmp_path / ("lora.safetensors" if kind == "checkpoint" else "sd_v1-5-pruned.ckpt"), shapes))
    assert (found.kind, found.family) == (kind, family)


def test_the_layout_of_the_real_model_is_recognised(tmp_path):
    """Zeros of all 1130 real names; their shapes are cut, for only the input's is looked at."""
    from backend.demo.layout import sd_layout

    shapes = {name: shape if "input_blocks.0.0" in name else (1,) for name, shape in sd_layout(SDSizes()).items()}
    assert recognise(write(tmp_path / "x", shapes)).family == "sd"


def test_pickled_files_are_told_too(tmp_path):
    import torch

    torch.save({"state_dict": {name: torch.from_numpy(value) for name, value in tiny_weights().items()}}, tmp_path / "a.bin")
    torch.save({"string_to_param": {"*": torch.ones(1, 768)}}, tmp_path / "b.bin")
    assert recognise(tmp_path / "a.bin").family == "sd" and recognise(tmp_path / "b.bin").kind == "embedding"


def test_the_tiny_model_has_no_faults(tmp_path):
    path = tiny_sd_checkpoint(tmp_path / "tiny.safetensors")
    assert faults(path) == [] and faults(path, path) == []


@pytest.mark.parametrize("name, told", [
    ("sdxl", "This is an SDXL model, which is not built here yet. Built are: Stable Diffusion 1.x."),
    ("sd2", "This is a Stable Diffusion 2.x model, which is not built here yet."), ("flux", "This is a Flux model, which is not built"),
    ("inpainting", "This is a Stable Diffusion inpainting model"), ("kohya lora", "which is a network (LoRA), but must be a whole model"),
    ("embedding", "which is a textual inversion embedding, but must"), ("vae", "which is a VAE, but must be a whole model"),
    ("diffusers unet", "which is one part of a Diffusers model, but must"), ("something", "which is something unknown, but must")])
def test_what_cannot_be_trained_is_refused_in_one_sentence(name, told, tmp_path):
    path = write(tmp_path / "model.safetensors", FILES[name][0])
    found = faults(path)
    assert len(found) == 1 and told in found[0] and str(path) in found[0] and found[0].startswith("pretrained_model_name_or_path")


def without(path, prefix):
    save_file({name: value for name, value in tiny_weights().items() if not name.startswith(prefix)}, path)
    return path


def test_a_checkpoint_without_a_vae_needs_one_from_elsewhere(tmp_path):
    path, vae = without(tmp_path / "model.safetensors", "first_stage_model."), tiny_sd_checkpoint(tmp_path / "vae.safetensors")
    assert faults(path) == [f"pretrained_model_name_or_path is {path}, which holds no VAE. Name the whole model, or give a VAE of its own by the option vae."]
    assert faults(path, vae) == []


def test_a_checkpoint_without_a_text_encoder_is_told(tmp_path):
    path = without(tmp_path / "model.safetensors", "cond_stage_model.")
    assert faults(path) == [f"pretrained_model_name_or_path is {path}, which holds no text encoder. Name the whole model."]


def test_a_lora_as_vae_is_refused_and_all_faults_are_told_at_once(tmp_path):
    lora = write(tmp_path / "lora.safetensors", FILES["kohya lora"][0])
    found = faults(tmp_path / "missing.safetensors", lora)
    assert len(found) == 2
    assert found[0] == f"pretrained_model_name_or_path is {tmp_path / 'missing.safetensors'}, which does not exist."
    assert found[1] == f"vae is {lora}, which is a network (LoRA), but must hold a VAE."


def test_a_missing_vae_is_told_once(tmp_path):
    assert faults(tiny_sd_checkpoint(tmp_path / "tiny.safetensors"), "nowhere.pt") == ["vae is nowhere.pt, which does not exist."]


def test_a_name_on_a_hub_is_told_to_be_given_as_a_file():
    assert "downloading is not built yet. Give a file or a folder." in faults("runwayml/stable-diffusion-v1-5")[0]


def test_an_empty_name_is_told():
    assert faults("")[0].startswith("pretrained_model_name_or_path is empty.")


@pytest.mark.parametrize("damage, told", [
    (lambda whole: b"", "is empty"), (lambda whole: os.urandom(8) + b"\x00" * 3000, "is not a weights file"),
    (lambda whole: whole[:-1000], "is cut short: it should have"), (lambda whole: whole[:1000], "is cut short or damaged")], ids=["empty", "random", "tail", "head"])
def test_a_damaged_model_file_is_told_in_one_sentence(damage, told, tmp_path):
    path = tiny_sd_checkpoint(tmp_path / "tiny.safetensors")
    path.write_bytes(damage(path.read_bytes()))
    found = faults(path)
    assert len(found) == 1 and told in found[0] and str(path) in found[0]


def folder(path, index, unet=None, text=None):
    for name, description in (("unet", unet or {"in_channels": 4}), ("text_encoder", text or {"hidden_act": "quick_gelu"})):
        (path / name).mkdir(parents=True)
        (path / name / "config.json").write_text(json.dumps(description))
    (path / "model_index.json").write_text(json.dumps(index))
    return path


CLIP = ["transformers", "CLIPTextModel"]
UNET_CLASS = ["diffusers", "UNet2DConditionModel"]


@pytest.mark.parametrize("index, unet, text, family", [
    ({"unet": UNET_CLASS, "text_encoder": CLIP}, None, None, "sd"),
    ({"unet": UNET_CLASS, "text_encoder": CLIP}, None, {"hidden_act": "gelu"}, "sd2"),
    ({"unet": UNET_CLASS, "text_encoder": CLIP}, {"in_channels": 9}, None, "inpainting"),
    ({"unet": UNET_CLASS, "text_encoder": CLIP, "text_encoder_2": CLIP}, None, None, "sdxl"),
    ({"unet": UNET_CLASS, "text_encoder": [None, None], "text_encoder_2": CLIP}, None, None, "sdxl_refiner"),
    ({"transformer": ["diffusers", "SD3Transformer2DModel"], "text_encoder": CLIP}, None, None, "sd3"),
    ({"transformer": ["diffusers", "FluxTransformer2DModel"], "text_encoder": CLIP}, None, None, "flux"),
    ({"transformer": ["diffusers", "OtherTransformer"]}, None, None, "")])
def test_a_diffusers_folder_is_told_by_its_descriptions(index, unet, text, family, tmp_path):
    found = recognise(folder(tmp_path / "model", index, unet, text))
    assert (found.kind, found.family) == ("diffusers folder", family)


def test_a_vae_folder_is_told(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL"}))
    assert recognise(tmp_path).kind == "diffusers vae folder"
    assert faults(tmp_path)[0].endswith("which is a VAE in a Diffusers folder, but must be a whole model.")


def test_a_folder_without_model_index_is_told(tmp_path):
    assert "is a folder without model_index.json" in faults(tmp_path)[0]


def test_an_incomplete_or_damaged_folder_is_told(tmp_path):
    path = folder(tmp_path / "model", {"unet": UNET_CLASS, "text_encoder": CLIP})
    shutil.rmtree(path / "unet")
    assert f"{path / 'unet' / 'config.json'} does not exist" in faults(path)[0]
    (path / "model_index.json").write_text("{")
    assert "model_index.json is damaged" in faults(path)[0]


def test_files_are_checked_without_loading_torch(tmp_path):
    path = tiny_sd_checkpoint(tmp_path / "tiny.safetensors")
    code = (f"import sys; from types import SimpleNamespace as N; from backend.models.options import ModelOptions as M; from backend.models.registry import check_model_files as c; "
            f"assert c(N(model=M(pretrained_model_name_or_path={str(path)!r}))) == []; sys.exit(any(name in sys.modules for name in ('torch', 'diffusers', 'transformers')))")
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
