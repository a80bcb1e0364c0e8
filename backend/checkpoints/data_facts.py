"""What a trained file tells of the pictures it was trained on, in the community's JSON. Imports no torch.

A file tells names of folders, never whole paths.
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

import numpy as np


@dataclass(frozen=True)
class Pictures:
    """One row for each picture. N: pictures."""

    dataset: np.ndarray  # [N] its place among the data sets
    subset: np.ndarray  # [N] its place among all subsets of all data sets, counted through
    repeats: np.ndarray  # [N] uses in an epoch
    captions: Sequence[str]
    sizes: np.ndarray  # [N, 2] width and height of the file
    buckets: np.ndarray  # [N, 2] width and height it is trained at

    @classmethod
    def of(cls, records: Any) -> "Pictures":
        """From the columns of a scan, where bucket names a row of buckets."""
        buckets = np.array([(bucket.width, bucket.height) for bucket in records.buckets])
        sizes = np.stack([records.width, records.height], axis=1)
        return cls(records.dataset, records.subset, records.num_repeats, records.caption, sizes, buckets[records.bucket])


def picture_counts(datasets: Sequence[Any], pictures: Pictures) -> tuple[int, int]:
    """Uses in an epoch: of training pictures, and of regularisation pictures."""
    is_reg = np.array([subset.is_reg for dataset in datasets for subset in dataset.subsets], dtype=bool)[pictures.subset]
    return int(pictures.repeats[~is_reg].sum()), int(pictures.repeats[is_reg].sum())


def data_metadata(datasets: Sequence[Any], pictures: Pictures, from_file: bool, processes: int = 1) -> dict[str, str]:
    """The ss_ facts of the data: a list of data sets where a dataset file described them, plain keys where folders did.

    datasets: with the options of a data set as attributes, and subsets with theirs.
    """
    starts = np.cumsum([0] + [len(dataset.subsets) for dataset in datasets])
    described = [describe_dataset(dataset, int(start), pictures, at) for at, (dataset, start) in enumerate(zip(datasets, starts))]
    tags, folders, reg_folders = {}, {}, {}
    for dataset in described:
        for folder, counts in dataset["tag_frequency"].items():
            tags[folder] = dict(Counter(tags.get(folder, {})) + Counter(counts))
        for subset in dataset["subsets"]:
            held = reg_folders if subset["is_reg"] and not from_file else folders
            held[subset["image_dir"]] = {"n_repeats": subset["num_repeats"], "img_count": subset["img_count"]}
    facts = {"ss_tag_frequency": json.dumps(tags), "ss_dataset_dirs": json.dumps(folders)}
    if from_file:
        return {**facts, "ss_datasets": json.dumps(described)}
    return {**facts, "ss_reg_dataset_dirs": json.dumps(reg_folders), **plain_facts(datasets[0], described[0], processes)}


def plain_facts(dataset: Any, described: dict[str, Any], processes: int) -> dict[str, str]:
    """The keys of the only data set, where no dataset file is used."""
    first = dataset.subsets[0]
    return {
        "ss_batch_size_per_device": str(dataset.batch_size),
        "ss_total_batch_size": str(dataset.batch_size * processes),
        "ss_resolution": str(tuple(int(side) for side in dataset.resolution)),
        "ss_color_aug": "False",
        "ss_flip_aug": str(first.flip_aug),
        "ss_random_crop": "False",
        "ss_shuffle_caption": str(first.shuffle_caption),
        "ss_enable_bucket": str(dataset.enable_bucket),
        "ss_bucket_no_upscale": str(dataset.bucket_no_upscale),
        "ss_min_bucket_reso": str(described["min_bucket_reso"]),
        "ss_max_bucket_reso": str(described["max_bucket_reso"]),
        "ss_keep_tokens": str(first.keep_tokens),
        "ss_bucket_info": json.dumps(described["bucket_info"]),
    }


def describe_dataset(dataset: Any, first_subset: int, pictures: Pictures, place: int) -> dict[str, Any]:
    """One data set as other programs read it."""
    rows = np.flatnonzero(pictures.dataset == place)
    subsets = [describe_subset(subset, int((pictures.subset == first_subset + at).sum())) for at, subset in enumerate(dataset.subsets)]
    uses = {is_reg: sum(subset["img_count"] * subset["num_repeats"] for subset in subsets if subset["is_reg"] is is_reg) for is_reg in (False, True)}
    tags: dict[str, Counter] = {}
    for row in rows:
        folder = subsets[pictures.subset[row] - first_subset]["image_dir"]
        tags.setdefault(folder, Counter()).update(tags_of(pictures.captions[row]))
    return {
        "is_dreambooth": True,
        "batch_size_per_device": dataset.batch_size,
        "num_train_images": uses[False],
        "num_reg_images": uses[True],
        "resolution": [int(side) for side in dataset.resolution],
        "enable_bucket": dataset.enable_bucket,
        "min_bucket_reso": dataset.min_bucket_reso if dataset.enable_bucket else None,
        "max_bucket_reso": dataset.max_bucket_reso if dataset.enable_bucket else None,
        "tag_frequency": {folder: dict(counts) for folder, counts in tags.items()},
        "bucket_info": describe_buckets(pictures, rows) if dataset.enable_bucket else None,
        "resize_interpolation": None,
        "subsets": subsets,
    }


def describe_subset(subset: Any, count: int) -> dict[str, Any]:
    """One folder of pictures as other programs read it; what is not built has the value it in effect has."""
    return {
        "img_count": count,
        "num_repeats": subset.num_repeats,
        "color_aug": False,
        "flip_aug": subset.flip_aug,
        "random_crop": False,
        "shuffle_caption": subset.shuffle_caption,
        "keep_tokens": subset.keep_tokens,
        "keep_tokens_separator": "",
        "secondary_separator": None,
        "enable_wildcard": False,
        "caption_prefix": None,
        "caption_suffix": None,
        "resize_interpolation": None,
        "image_dir": Path(subset.image_dir).name,
        "class_tokens": subset.class_tokens,
        "is_reg": subset.is_reg,
    }


def describe_buckets(pictures: Pictures, rows: np.ndarray) -> dict[str, Any]:
    """Size and uses of each bucket, and how far pictures' shapes are from their buckets', as a mean over the uses."""
    sizes, found = np.unique(pictures.buckets[rows], axis=0, return_inverse=True)
    repeats = pictures.repeats[rows]
    counts = np.bincount(found.reshape(-1), weights=repeats, minlength=len(sizes)).astype(int)
    buckets = {str(at): {"resolution": size.tolist(), "count": int(count)} for at, (size, count) in enumerate(zip(sizes, counts))}
    shapes, wanted = (table[:, 0] / table[:, 1] for table in (pictures.sizes[rows], pictures.buckets[rows]))
    error = float((np.abs(shapes - wanted) * repeats).sum() / max(1, repeats.sum()))
    return {"buckets": buckets, "mean_img_ar_error": error}


def tags_of(caption: str) -> list[str]:
    """The parts of a caption between commas, in lower case. Always commas: readers of the metadata expect it."""
    return [tag.strip().lower() for tag in caption.split(",") if tag.strip()]
