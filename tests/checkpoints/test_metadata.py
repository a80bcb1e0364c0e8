"""What a trained file tells of itself, against hand-made cases."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from backend.checkpoints.data_facts import Pictures, data_metadata, picture_counts
from backend.checkpoints.metadata import IN_EFFECT, MINIMAL, TOLD, FileFacts, TrainingFacts, file_facts, network_metadata
from backend.config.commands import fields_of
from backend.config.config import make_config
from backend.models.model import FamilyFacts

# Every key that the community's trainer writes always.
ALWAYS = """
session_id training_started_at training_finished_at output_name learning_rate text_encoder_lr unet_lr num_train_images num_validation_images
num_reg_images num_batches_per_epoch num_epochs epoch steps gradient_checkpointing gradient_accumulation_steps max_train_steps lr_warmup_steps
lr_scheduler network_module network_dim network_alpha network_dropout mixed_precision full_fp16 v2 base_model_version clip_skip max_token_length
cache_latents seed lowram noise_offset multires_noise_iterations multires_noise_discount adaptive_noise_scale zero_terminal_snr training_comment
optimizer max_grad_norm caption_dropout_rate caption_dropout_every_n_epochs caption_tag_dropout_rate face_crop_aug_range prior_loss_weight
min_snr_gamma scale_weight_norms ip_noise_gamma debiased_estimation noise_offset_random_strength ip_noise_gamma_random_strength loss_type
huber_schedule huber_scale huber_c fp8_base fp8_base_unet validation_seed validation_split max_validation_steps validate_every_n_epochs
validate_every_n_steps resize_interpolation""".split()

METHOD = {"ss_network_module": "networks.lora", "ss_network_dim": "4", "ss_network_alpha": "1.0", "ss_network_dropout": "None", "ss_network_args": "{}"}


def facts(**changes):
    """A run's facts."""
    known = dict(
        family=FamilyFacts("sd_v1", "stable-diffusion-v1", 512, lora_implementation="diffusers"), session_id=77, started_at=1700000000.25,
        finished_at=1700000100.5, seed=42, steps=30, epoch=3, total_steps=100, total_epochs=10, batches_per_epoch=10, train_images=20,
        reg_images=5, optimizer="torch.optim.adamw.AdamW", resolution=(512, 768), model=FileFacts("sd.safetensors", "abcd0123", "f" * 64))
    return TrainingFacts(**{**known, **changes})


def told(values=None, **changes):
    """The metadata of a config with some values."""
    return network_metadata(make_config("train_network", values or {}), facts(**changes), METHOD)


def test_every_usual_key_is_there_and_every_value_is_a_string():
    metadata = told()
    assert [name for name in ALWAYS if f"ss_{name}" not in metadata] == []
    assert all(isinstance(value, str) for value in metadata.values())


def test_options_are_told_as_python_writes_them():
    metadata = told({"learning_rate": 1e-4, "unet_lr": None, "text_encoder_lr": [5e-5], "gradient_checkpointing": True, "output_name": "cat"})
    assert metadata["ss_learning_rate"] == "0.0001" and metadata["ss_unet_lr"] == "None" and metadata["ss_text_encoder_lr"] == "[5e-05]"
    assert metadata["ss_gradient_checkpointing"] == "True" and metadata["ss_output_name"] == "cat"
    assert told()["ss_text_encoder_lr"] == "None"


def test_the_run_is_told_as_it_was_not_as_it_was_asked_for():
    metadata = told({"max_train_steps": 7, "seed": None})
    assert (metadata["ss_max_train_steps"], metadata["ss_seed"], metadata["ss_epoch"], metadata["ss_steps"]) == ("100", "42", "3", "30")
    assert metadata["ss_training_started_at"] == "1700000000.25" and metadata["ss_v2"] == "False"


def test_the_model_and_its_vae_are_named_with_their_hashes(tmp_path):
    metadata = told(vae=FileFacts("folder"))
    assert metadata["ss_sd_model_name"] == "sd.safetensors" and metadata["ss_sd_model_hash"] == "abcd0123"
    assert metadata["ss_new_sd_model_hash"] == "f" * 64
    assert metadata["ss_vae_name"] == "folder" and "ss_vae_hash" not in metadata
    assert "ss_vae_name" not in told()
    assert file_facts(None) is None and file_facts(str(tmp_path)) == FileFacts(tmp_path.name)


def test_the_model_specification_is_filled():
    metadata = told({"output_name": "cat", "clip_skip": 2})
    assert metadata["modelspec.sai_model_spec"] == "1.0.1" and metadata["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert metadata["modelspec.implementation"] == "diffusers" and metadata["modelspec.title"] == "cat"
    assert metadata["modelspec.resolution"] == "512x768" and metadata["modelspec.prediction_type"] == "epsilon"
    assert metadata["modelspec.encoder_layer"] == "2" and "modelspec.encoder_layer" not in told()
    assert metadata["modelspec.date"].startswith("2023-11-1")


def test_no_metadata_keeps_what_other_programs_need_to_load_the_file():
    metadata = told({"no_metadata": True, "training_comment": "secret"}, data={"ss_tag_frequency": "{}"})
    assert {key for key in metadata if key.startswith("ss_")} == set(MINIMAL)
    assert "modelspec.title" in metadata and "secret" not in metadata.values()


def test_the_table_of_what_is_not_built_holds_nothing_that_is():
    declared = fields_of("train_network")
    assert not set(IN_EFFECT) & set(declared)
    assert set(TOLD) <= set(declared)


def a_subset(folder, **settings):
    known = dict(image_dir=f"/home/someone/{folder}", is_reg=False, class_tokens=None, num_repeats=1, shuffle_caption=False, keep_tokens=0, flip_aug=False)
    return SimpleNamespace(**{**known, **settings})


def a_dataset(*subsets, **settings):
    known = dict(resolution=(512, 512), batch_size=2, enable_bucket=True, min_bucket_reso=256, max_bucket_reso=1024, bucket_no_upscale=False)
    return SimpleNamespace(subsets=subsets, **{**known, **settings})


@pytest.fixture
def datasets():
    """Two pictures used three times, two of regularisation, and a second data set of one picture."""
    return [a_dataset(a_subset("3_sks cat", num_repeats=3, keep_tokens=1), a_subset("1_cat", is_reg=True, class_tokens="cat")),
            a_dataset(a_subset("more", num_repeats=2, flip_aug=True), enable_bucket=False, resolution=(256, 128))]


@pytest.fixture
def pictures():
    return Pictures(
        dataset=np.array([0, 0, 0, 0, 1]), subset=np.array([0, 0, 1, 1, 2]), repeats=np.array([3, 3, 1, 1, 2]),
        captions=["Cat, red ,, cat", "cat", "cat", "cat", "dog, big"],
        sizes=np.array([[600, 400], [512, 512], [512, 512], [512, 512], [256, 128]]),
        buckets=np.array([[640, 384], [512, 512], [512, 512], [512, 512], [256, 128]]))


def test_uses_are_counted_apart_for_training_and_regularisation(datasets, pictures):
    assert picture_counts(datasets, pictures) == (8, 2)


def test_a_dataset_file_is_told_as_a_list_of_data_sets(datasets, pictures):
    metadata = data_metadata(datasets, pictures, from_file=True)
    first, second = json.loads(metadata["ss_datasets"])
    assert (first["num_train_images"], first["num_reg_images"], second["num_train_images"]) == (6, 2, 2)
    assert first["tag_frequency"] == {"3_sks cat": {"cat": 3, "red": 1}, "1_cat": {"cat": 2}}
    assert first["bucket_info"]["buckets"] == {"0": {"resolution": [512, 512], "count": 5}, "1": {"resolution": [640, 384], "count": 3}}
    assert first["bucket_info"]["mean_img_ar_error"] == pytest.approx(3 * abs(1.5 - 640 / 384) / 8)
    assert second["bucket_info"] is None and second["min_bucket_reso"] is None and second["resolution"] == [256, 128]
    assert [subset["img_count"] for subset in first["subsets"]] == [2, 2]
    assert second["subsets"][0]["flip_aug"] is True and first["subsets"][1]["class_tokens"] == "cat"
    assert json.loads(metadata["ss_tag_frequency"])["more"] == {"dog": 1, "big": 1}
    assert json.loads(metadata["ss_dataset_dirs"])["3_sks cat"] == {"n_repeats": 3, "img_count": 2}
    assert "ss_resolution" not in metadata


def test_folders_are_told_by_plain_keys(datasets, pictures):
    rows = pictures.dataset == 0
    of_first = Pictures(*(np.array(column)[rows] for column in vars(pictures).values()))
    metadata = data_metadata(datasets[:1], of_first, from_file=False, processes=3)
    assert metadata["ss_resolution"] == "(512, 512)" and metadata["ss_keep_tokens"] == "1"
    assert (metadata["ss_batch_size_per_device"], metadata["ss_total_batch_size"]) == ("2", "6")
    assert json.loads(metadata["ss_dataset_dirs"]) == {"3_sks cat": {"n_repeats": 3, "img_count": 2}}
    assert json.loads(metadata["ss_reg_dataset_dirs"]) == {"1_cat": {"n_repeats": 1, "img_count": 2}}
    assert json.loads(metadata["ss_bucket_info"])["buckets"]["1"]["count"] == 3
    assert "ss_datasets" not in metadata


def test_a_file_tells_no_whole_paths(datasets, pictures):
    assert "someone" not in str(data_metadata(datasets, pictures, from_file=True)) + str(data_metadata(datasets, pictures, from_file=False))


def test_pictures_of_a_scan_have_the_same_rows(tmp_path):
    from PIL import Image

    from backend.data.records import scan
    from backend.data.subsets import read_datasets

    folder = tmp_path / "3_sks cat"
    folder.mkdir()
    for name, size in (("a", (128, 128)), ("b", (192, 96))):
        Image.new("RGB", size, "red").save(folder / f"{name}.png")
    config = make_config("train_network", {"train_data_dir": str(tmp_path), "resolution": [128, 128], "enable_bucket": True, "min_bucket_reso": 64,
                                           "max_bucket_reso": 256, "bucket_reso_steps": 32})
    datasets = read_datasets(config.data)
    found = Pictures.of(scan(datasets, config.data))
    assert found.repeats.tolist() == [3, 3] and found.sizes.tolist() == [[128, 128], [192, 96]] and len(found.buckets) == 2
    metadata = data_metadata(datasets, found, from_file=False)
    assert json.loads(metadata["ss_tag_frequency"]) == {"3_sks cat": {"sks cat": 2}}
