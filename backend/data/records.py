"""Every picture that takes part, as columns: one row a picture. Torch-free."""

import hashlib
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from backend.data.buckets import BucketRule, Geometry, Size
from backend.data.options import DataOptions
from backend.data.pictures import BadPicture, holds_pictures, is_picture_name, measure
from backend.data.subsets import Dataset, Subset
from backend.faults import FaultList

log = logging.getLogger("darkroom")

CAPTION_ENDINGS = (".txt", ".caption")  # what captioners and taggers write


@dataclass(frozen=True)
class Bucket:
    """A size that pictures of a dataset are trained in. Sides in pixels."""

    dataset: int
    width: int
    height: int


@dataclass(frozen=True)
class Records:
    """The pictures as columns, in order of dataset, subset and file name. Row numbers name a picture everywhere else."""

    path: list[str]
    caption: list[str]  # the first line of the caption file, or the class tokens, or nothing
    caption_source: list[str]  # file, class_tokens or none
    dataset: np.ndarray  # int32, index into datasets
    subset: np.ndarray  # int32, index into subsets
    width: np.ndarray  # int32, pixels as seen
    height: np.ndarray
    num_repeats: np.ndarray  # int32
    is_reg: np.ndarray  # bool
    loss_weight: np.ndarray  # float32: prior_loss_weight for regularisation, else 1
    bucket: np.ndarray  # int32, index into buckets
    datasets: tuple[Dataset, ...]
    subsets: tuple[Subset, ...]  # of all datasets, in order
    buckets: tuple[Bucket, ...]
    left_out: list[tuple[str, str]] = field(default_factory=list)  # path, reason

    def __len__(self) -> int:
        return len(self.path)

    def geometry(self, record: int) -> Geometry:
        """How a picture is resized and cropped."""
        rule = self.datasets[self.dataset[record]].bucket_rule()
        return rule.geometry(int(self.width[record]), int(self.height[record]))

    def bucket_counts(self) -> list[tuple[Bucket, int]]:
        """How many pictures each bucket has."""
        return list(zip(self.buckets, np.bincount(self.bucket, minlength=len(self.buckets)).tolist()))

    def fingerprint(self) -> str:
        """A hash of what a run does with which pictures; not of where they lie, nor of the words in caption files."""
        digest = hashlib.sha256()
        for dataset in self.datasets:
            digest.update(f"dataset {dataset.batch_size}\n".encode())
            for subset in dataset.subsets:
                # How its captions and pictures are drawn, wherever the folder lies.
                facts = {name: value for name, value in vars(subset).items() if name != "image_dir"}
                digest.update(repr(sorted(facts.items())).encode())
        for row in range(len(self)):
            bucket = self.buckets[self.bucket[row]]
            facts = (self.dataset[row], self.subset[row], self.width[row], self.height[row], self.num_repeats[row], int(self.is_reg[row]),
                     bucket.width, bucket.height)
            name = os.path.basename(self.path[row]).encode("utf-8", "surrogateescape")
            digest.update(" ".join(map(str, facts)).encode() + b" " + name + b"\n")
        return digest.hexdigest()


@dataclass
class Scan:
    """What a scan has found so far. A file that takes part in several datasets is looked at, and counted in warnings, once."""

    rows: list[tuple] = field(default_factory=list)  # path, caption, source, dataset, subset, size
    sizes: dict[str, Size] = field(default_factory=dict)  # by path
    left_out: dict[str, str] = field(default_factory=dict)  # path -> reason
    uncaptioned: set[str] = field(default_factory=set)  # paths
    beside: dict[tuple[str, str, str], set[str]] = field(default_factory=dict)  # (folder, ending in use, ending that lies there) -> pictures
    faults: FaultList = field(default_factory=FaultList)


@dataclass(frozen=True)
class Folder:
    """The file names in a subset's folder."""

    subset: Subset
    pictures: list[str]
    names: frozenset[str]


def scan(datasets: list[Dataset], options: DataOptions) -> Records:
    """Look at every picture and caption. Raises Faults, all at once; pictures that cannot be used are left out with a warning.

    One pass over the files: 100,000 pictures take half a minute, or as long as the disk needs to give all PNG files (see pictures.measure).
    """
    found = Scan()
    number = 0
    for index, dataset in enumerate(datasets):
        for subset in dataset.subsets:
            folder = list_folder(subset, found.faults)
            if folder:
                scan_folder(folder, (index, number), found)
            number += 1
    report_bad(found, options.strict_images)
    if not found.rows and not found.faults.messages:
        found.faults.add("There are no pictures to train on.")
    found.faults.raise_if_any()
    records = make_records(found, datasets, options)
    report_captions(found)
    return records


def list_folder(subset: Subset, faults: FaultList) -> Folder | None:
    """The names in a folder, pictures sorted; None with a fault where there is no folder or no picture in it."""
    path = subset.image_dir
    try:
        entries = list(os.scandir(path))
    except OSError as error:
        why = "it does not exist" if isinstance(error, FileNotFoundError) else f"it cannot be read ({error.strerror})"
        faults.add(f"The picture folder {path} cannot be used: {why}.")
        return None
    names = frozenset(entry.name for entry in entries if entry.is_file())
    pictures = sorted(name for name in names if is_picture_name(name))
    if pictures:
        return Folder(subset, pictures, names)
    below = sorted(entry.name for entry in entries if entry.is_dir() and holds_pictures(entry.path))
    hint = f" Folders in it do hold some ({', '.join(below[:3])}): name those, each as a subset of its own." if below else ""
    faults.add(f"The picture folder {path} holds no pictures (png, jpg, jpeg, webp, bmp).{hint}")
    return None


def scan_folder(folder: Folder, place: tuple[int, int], found: Scan) -> None:
    """Look at the pictures of one folder. place: dataset and subset."""
    before = len(found.rows)
    for name in folder.pictures:
        path = os.path.join(folder.subset.image_dir, name)
        size = size_of(path, found)
        if size:
            found.rows.append((path, *caption_of(folder, name, found), *place, size))
    if len(found.rows) == before:
        found.faults.add(f"The picture folder {folder.subset.image_dir} cannot be used: none of its {len(folder.pictures)} pictures can be read"
                         f" ({folder.pictures[0]}: {found.left_out[os.path.join(folder.subset.image_dir, folder.pictures[0])]}).")


def size_of(path: str, found: Scan) -> Size | None:
    """A picture's size, or None where it cannot be used."""
    if path not in found.sizes and path not in found.left_out:
        try:
            found.sizes[path] = measure(path)
        except BadPicture as bad:
            found.left_out[path] = str(bad)
    return found.sizes.get(path)


def caption_of(folder: Folder, picture: str, found: Scan) -> tuple[str, str]:
    """A picture's words and where they come from: file, class_tokens or none."""
    stem, extension = os.path.splitext(picture)[0], folder.subset.caption_extension
    if stem + extension in folder.names:
        return read_caption(os.path.join(folder.subset.image_dir, stem + extension), found.faults), "file"
    other = next((ending for ending in CAPTION_ENDINGS if stem + ending in folder.names), None)
    if other:
        key = (str(folder.subset.image_dir), extension, other)
        found.beside.setdefault(key, set()).add(picture)
    if folder.subset.class_tokens:
        return folder.subset.class_tokens, "class_tokens"
    found.uncaptioned.add(os.path.join(folder.subset.image_dir, picture))
    return "", "none"


def read_caption(path: str, faults: FaultList) -> str:
    """The first line with words in a caption file."""
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        faults.add(f"The caption file {path} is not UTF-8 text (byte {error.start + 1}). Save it as UTF-8.")
        return ""
    except OSError as error:
        faults.add(f"The caption file {path} cannot be read: {error.strerror}.")
        return ""
    # Not splitlines, which also cuts at characters such as U+2028 that stand in captions from web pages.
    line = next((line.strip() for line in text.replace("\r", "\n").split("\n") if line.strip()), "")
    if not line:
        faults.add(f"The caption file {path} is empty. Write a caption in it, or delete it.")
    return line


def report_bad(found: Scan, strict: bool) -> None:
    """Tell of the files that are left out: as faults where the user asked for strictness, else as one warning."""
    if strict:
        found.faults.extend(f"{path} cannot be used: {why}. Mend or remove it, or turn strict_images off." for path, why in found.left_out.items())
    elif found.left_out:
        lines = "".join(f"\n  {path}: {why}" for path, why in found.left_out.items())
        log.warning("%d of %d pictures are left out, because they cannot be read:%s", len(found.left_out),
                    len(found.left_out) + len(found.sizes), lines)


def report_captions(found: Scan) -> None:
    """One warning on captions that are missing, or that lie there under another ending."""
    remarks = []
    if found.uncaptioned:
        remarks.append(f"{len(found.uncaptioned)} of {len(found.sizes)} pictures have no caption file and no class tokens: they are trained without words.")
    for (folder, ending, other), pictures in found.beside.items():
        remarks.append(f"In {folder}, {len(pictures)} pictures have no {ending} file, but have a {other} file, which is not read: set caption_extension to {other}.")
    if remarks:
        log.warning("%s", " ".join(remarks))


def make_records(found: Scan, datasets: list[Dataset], options: DataOptions) -> Records:
    """The rows as columns, each picture with its bucket."""
    subsets = tuple(subset for dataset in datasets for subset in dataset.subsets)
    path, caption, source, dataset, subset, sizes = (list(column) for column in zip(*found.rows))
    bucket, buckets = sort_into_buckets(dataset, sizes, [each.bucket_rule() for each in datasets])
    of_subset = np.array(subset, dtype=np.int32)
    is_reg = np.array([each.is_reg for each in subsets], dtype=bool)[of_subset]
    return Records(
        path=path, caption=caption, caption_source=source, dataset=np.array(dataset, dtype=np.int32), subset=of_subset,
        width=np.array([size[0] for size in sizes], dtype=np.int32), height=np.array([size[1] for size in sizes], dtype=np.int32),
        num_repeats=np.array([each.num_repeats for each in subsets], dtype=np.int32)[of_subset], is_reg=is_reg,
        loss_weight=np.where(is_reg, options.prior_loss_weight, 1.0).astype(np.float32),
        bucket=bucket, datasets=tuple(datasets), subsets=subsets, buckets=buckets, left_out=list(found.left_out.items()))


def sort_into_buckets(dataset: list[int], sizes: list[Size], rules: list[BucketRule]) -> tuple[np.ndarray, tuple[Bucket, ...]]:
    """Each picture's index into the buckets, and the buckets in use, sorted."""
    geometries = {key: rules[key[0]].geometry(*key[1]) for key in set(zip(dataset, sizes))}
    buckets = sorted({(key[0], *geometry.bucket) for key, geometry in geometries.items()})
    number = {bucket: index for index, bucket in enumerate(buckets)}
    index = {key: number[(key[0], *geometry.bucket)] for key, geometry in geometries.items()}
    warn_of_enlarged([key for key in zip(dataset, sizes) if enlarged(rules[key[0]], geometries[key], key[1])])
    column = np.array([index[key] for key in zip(dataset, sizes)], dtype=np.int32)
    return column, tuple(Bucket(*bucket) for bucket in buckets)


def enlarged(rule: BucketRule, geometry: Geometry, size: Size) -> bool:
    """Whether a picture is enlarged against bucket_no_upscale."""
    return rule.enable_bucket and rule.bucket_no_upscale and geometry.resized[0] > size[0]


def warn_of_enlarged(pictures: list[tuple[int, Size]]) -> None:
    """Say that some pictures are too small even for bucket_no_upscale."""
    if pictures:
        log.warning("%d pictures are enlarged in spite of bucket_no_upscale, because a side would be shorter than the smallest bucket's"
                    " (the first is %dx%d).", len(pictures), *pictures[0][1])
