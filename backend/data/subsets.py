"""Which folders of pictures take part, and how each is used: from a dataset file, or from the names of folders. Torch-free."""

import logging
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backend.config.values import read_value
from backend.data.buckets import BucketRule, Size
from backend.data.dataset_file import DatasetLevels, Level, file_options, read_levels
from backend.data.options import DataOptions
from backend.data.pictures import holds_pictures
from backend.faults import FaultList, Faults

log = logging.getLogger("darkroom")

FOLDER_NAMES = "each named <repeats>_<words>, such as 10_sks cat"
WINDOWS_PATH = re.compile(r"[A-Za-z]:[\\/]|\\\\")


@dataclass(frozen=True)
class Subset:
    """One folder of pictures and how it is used."""

    image_dir: Path
    is_reg: bool = False
    class_tokens: str | None = None
    num_repeats: int = 1
    caption_extension: str = ".caption"
    caption_separator: str = ","
    shuffle_caption: bool = False
    keep_tokens: int = 0
    caption_dropout_rate: float = 0.0
    flip_aug: bool = False


@dataclass(frozen=True)
class Dataset:
    """Subsets that share a size and a batch size."""

    resolution: Size
    batch_size: int
    enable_bucket: bool
    min_bucket_reso: int
    max_bucket_reso: int
    bucket_reso_steps: int
    bucket_no_upscale: bool
    subsets: tuple[Subset, ...]

    def bucket_rule(self) -> BucketRule:
        """How this dataset's pictures find their buckets."""
        return BucketRule(self.resolution, self.enable_bucket, self.min_bucket_reso, self.max_bucket_reso, self.bucket_reso_steps,
                          self.bucket_no_upscale)


DATASET_KEYS = ("resolution", "train_batch_size", "enable_bucket", "min_bucket_reso", "max_bucket_reso", "bucket_reso_steps", "bucket_no_upscale")
SUBSET_KEYS = ("image_dir", "is_reg", "class_tokens", "num_repeats", "caption_extension", "caption_separator", "shuffle_caption", "keep_tokens",
               "caption_dropout_rate", "flip_aug")


def read_datasets(options: DataOptions) -> list[Dataset]:
    """The datasets to train on. Raises Faults, all at once; does not look into the folders of pictures of a dataset file."""
    faults = FaultList()
    if options.dataset_config:
        datasets = from_file(options, faults)
    else:
        datasets = from_folders(options, faults)
    faults.raise_if_any()
    return datasets


def from_file(options: DataOptions, faults: FaultList) -> list[Dataset]:
    """The datasets of a dataset file."""
    if options.train_data_dir or options.reg_data_dir:
        log.warning("dataset_config is given, so train_data_dir and reg_data_dir are not used.")
    general, found = read_levels(Path(options.dataset_config), faults)
    return [one_dataset(options, general, levels, faults) for levels in found]


def one_dataset(options: DataOptions, general: Level, levels: DatasetLevels, faults: FaultList) -> Dataset:
    """A dataset of the file, with its subsets."""
    given = resolve(DATASET_KEYS, (levels.own, general), options, faults)
    where = f"{levels.own.where}: "
    subsets = [one_subset(options, (level, levels.own, general), faults) for level in levels.subsets]
    subsets = without_unused(without_twins(where, subsets), where)
    if levels.subsets and not any(not subset.is_reg for subset in subsets):
        faults.add(f"{where}there is no folder of training pictures: at least one subset must be in use and not is_reg.")
    return make_dataset(given, subsets, where, faults)


def one_subset(options: DataOptions, levels: tuple[Level, ...], faults: FaultList) -> Subset:
    """A subset of the file, its keys looked up from the inside out."""
    given = resolve(SUBSET_KEYS, levels, options, faults)
    subject = levels[0].subject("image_dir")
    if "image_dir" not in levels[0].values or not str(given["image_dir"] or "").strip():
        faults.add(f"{subject} is missing: name the folder that holds the pictures.")
    faults.extend(foreign_path(subject, str(given["image_dir"])))
    if not given["caption_separator"]:
        faults.add(f"{levels[0].subject('caption_separator')} is empty, but must be what separates the parts of a caption.")
    extension = str(given["caption_extension"])
    if not extension.strip("."):
        faults.add(f"{levels[0].subject('caption_extension')} is empty, but must be the ending of caption files, such as .txt.")
    return Subset(**{**given, "image_dir": Path(given["image_dir"]), "caption_extension": dotted(extension)})


def resolve(names: tuple[str, ...], levels: tuple[Level, ...], options: DataOptions, faults: FaultList) -> dict[str, Any]:
    """Each option's value from the innermost level that gives it, else from the command line."""
    fields = file_options()
    values = {}
    for name in names:
        fallback = getattr(options, name) if name in DataOptions.model_fields else fields[name].get_default(call_default_factory=True)
        level = next((level for level in levels if name in level.values), None)
        values[name] = fallback
        if level is None:
            continue
        try:
            values[name] = read_value(name, fields[name], level.values[name], subject=level.subject(name))
        except ValueError as fault:
            faults.add(str(fault))
    return values


def make_dataset(given: dict[str, Any], subsets: list[Subset], where: str, faults: FaultList) -> Dataset:
    """A dataset from its options' values. `where` begins the sentences about it."""
    given = {**given, "resolution": tuple(given["resolution"]), "subsets": tuple(subsets)}
    dataset = Dataset(batch_size=given.pop("train_batch_size"), **given)
    faults.extend(where + fault for fault in dataset.bucket_rule().faults())
    return dataset


def without_twins(where: str, subsets: list[Subset]) -> list[Subset]:
    """The subsets without those whose folder came before."""
    seen, kept = set(), []
    for subset in subsets:
        place = os.path.abspath(subset.image_dir)
        if place in seen:
            log.warning("%simage_dir %s is given twice in one dataset; the second is left out. Use num_repeats to use a folder more often.",
                        where, subset.image_dir)
            continue
        seen.add(place)
        kept.append(subset)
    return kept


def without_unused(subsets: list[Subset], where: str) -> list[Subset]:
    """The subsets without those that are switched off by their repeats."""
    for subset in subsets:
        if subset.num_repeats < 1:
            log.warning("%s%s is left out, because its num_repeats is %d.", where, subset.image_dir, subset.num_repeats)
    return [subset for subset in subsets if subset.num_repeats >= 1]


def foreign_path(subject: str, path: str) -> list[str]:
    """A fault where a path of Windows is given on another system."""
    if os.name == "nt" or not WINDOWS_PATH.match(path):
        return []
    inside = f" In WSL it is /mnt/{path[0].lower()}/{path[3:]}.".replace("\\", "/") if path[1:2] == ":" else ""
    return [f'{subject} is "{path}", a Windows path, which this system cannot open.{inside}']


def dotted(extension: str) -> str:
    """A file ending with its dot."""
    return extension if extension.startswith(".") else f".{extension}"


def from_folders(options: DataOptions, faults: FaultList) -> list[Dataset]:
    """The one dataset that the two options train_data_dir and reg_data_dir describe."""
    if not options.train_data_dir:
        faults.add(f"train_data_dir is not given: name the folder that holds the picture folders, {FOLDER_NAMES}; or give a dataset_config.")
        return []
    subsets = subsets_in("train_data_dir", options.train_data_dir, options, faults)
    if options.reg_data_dir:
        found = subsets_in("reg_data_dir", options.reg_data_dir, options, faults)
        subsets += [replace(subset, is_reg=True) for subset in found]
    subsets = without_twins("", subsets)
    if not options.caption_separator:
        faults.add("caption_separator is empty, but must be what separates the parts of a caption.")
    if not options.caption_extension.strip("."):
        faults.add("caption_extension is empty, but must be the ending of caption files, such as .txt.")
    return [make_dataset({name: getattr(options, name) for name in DATASET_KEYS}, subsets, "", faults)]


def subsets_in(option: str, folder: str, options: DataOptions, faults: FaultList) -> list[Subset]:
    """A subset for each folder named <repeats>_<words> in `folder`, sorted by name; others are left out with a warning."""
    foreign = foreign_path(option, folder)
    if foreign or not Path(folder).is_dir():
        faults.extend(foreign or [f"{option} is {folder}, but there is no such folder."])
        return []
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        faults.add(f"{option} is {folder}, which cannot be read: {error.strerror}.")
        return []
    shared = {name: getattr(options, name) for name in SUBSET_KEYS if name in DataOptions.model_fields}
    shared["caption_extension"] = dotted(shared["caption_extension"])
    subsets = []
    for name in names:
        read = read_folder_name(name)
        if read is None:
            log.warning("%s: the folder %s is left out, because its name does not begin with repeats of 1 or more, such as 10_%s.", option, name, name)
            continue
        subsets.append(Subset(Path(folder, name), num_repeats=read[0], class_tokens=read[1], **shared))
    if not subsets:
        faults.add(nothing_usable(option, folder))
    return subsets


def read_folder_name(name: str) -> tuple[int, str | None] | None:
    """Repeats and class tokens from a folder's name, or None where it does not begin with a whole number of 1 or more."""
    repeats, _, words = name.partition("_")
    if not (repeats.isascii() and repeats.isdigit()) or int(repeats) < 1:
        return None
    return int(repeats), words.strip() or None


def nothing_usable(option: str, folder: str) -> str:
    """What to do where a folder holds no folder that can be used."""
    path = Path(folder)
    itself = read_folder_name(path.resolve().name) is not None
    if itself or holds_pictures(path):
        why = "it is itself named like a picture folder" if itself else "it holds pictures itself"
        parent = f"give its parent, {path.resolve().parent}" if itself else f"move them into a folder in it named like 10_sks cat, or give the parent of folders, {FOLDER_NAMES}"
        return f"{option} is {folder}, which holds no picture folders; {why}: {parent}."
    return f"{option} is {folder}, which holds no picture folders, {FOLDER_NAMES}."
