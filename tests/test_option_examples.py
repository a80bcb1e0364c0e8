"""Every option's example changes what it says it changes: no option is shown and not obeyed.

Each case trains twice for real, with and without the example. "result": other trained tensors; "files": other files, or other
sample pictures; "plan": another plan; "words": other words in the trained file; "speed": the same result, and a witness of its own.
"""

import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from backend.config.commands import fields_of
from backend.config.option import choices_of, facts_of
from tests.tiny import tiny_sd_checkpoint
from tests.workshop import as_flags, events, file_facts, photographs, picture_folder, start, tensors

BASE = {
    "pretrained_model_name_or_path": "tiny.safetensors", "train_data_dir": "train", "resolution": 64, "max_train_steps": 6, "learning_rate": 2e-3,
    "seed": 3, "network_dim": 4, "max_data_loader_n_workers": 0, "run_dir": "{run}", "rolling_state_minutes": 0.0}
BUCKETS = {"resolution": 256, "max_train_steps": 1, "min_bucket_reso": 64}
# What an option needs around it to show, beside what its example names.
AROUND = {
    "enable_bucket": {"resolution": 128, "min_bucket_reso": 64}, "min_bucket_reso": BUCKETS | {"min_bucket_reso": 256}, "max_bucket_reso": BUCKETS,
    "bucket_reso_steps": BUCKETS, "bucket_no_upscale": BUCKETS, "max_train_epochs": {"train_batch_size": 2},
    "persistent_data_loader_workers": {"train_batch_size": 2}, "rolling_state_minutes": {"rolling_state_minutes": 1e-6},
    "runs_dir": {"run_dir": None}, "save_last_n_epochs": {"max_train_epochs": 3}, "save_last_n_epochs_state": {"max_train_epochs": 3}, "text_encoder_lr": {"unet_lr": 1e-4}}
ALONE = ("sample_prompts",)  # what their examples need around them is a fault without them
TIMES = re.compile(r"\d{14}|\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d|events\.out\S*")
OF_THE_MOMENT = re.compile(r"ss_(training_(started|finished)_at|session_id)|modelspec\.date|sshs_legacy_hash")


def every_option() -> list[str]:
    """Flags of train_network that have another value to show."""
    fields = fields_of("train_network")
    return [name for name, (_, field) in fields.items() if facts_of(field).flag and len(choices_of(field)) != 1]


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Path:
    """A folder that holds all that the examples name."""
    folder = tmp_path_factory.mktemp("examples")
    tiny_sd_checkpoint(folder / "tiny.safetensors")
    tiny_sd_checkpoint(folder / "other.safetensors", seed=1)
    tiny_sd_checkpoint(folder / "vae.safetensors", seed=2)
    train = picture_folder(folder / "train" / "1_sks cat", count=3, captions="all")
    for text in train.glob("*.caption"):
        text.with_suffix(".txt").write_text("something else; altogether; new\n")
        text.write_text("red; blue, green; white, black, small; large\n")
    photographs()[0].resize((60, 600)).save(train / "tall.png")
    picture_folder(folder / "other" / "2_sks dog", count=3)
    picture_folder(folder / "reg" / "1_cat", count=2, captions="none")
    (folder / "prompts.txt").write_text("a cat --w 64 --h 64 --s 3 --d 1\n")
    (folder / "dataset.toml").write_text("[[datasets]]\nresolution = 96\n[[datasets.subsets]]\nimage_dir = 'other/2_sks dog'\nclass_tokens = 'dog'\n")
    made = trained(folder, {"seed": 9, "max_train_steps": 3, "save_state": True})
    shutil.copy(made / "last.safetensors", folder / "start.safetensors")
    half = trained(folder, {"max_train_steps": 3, "save_state": True})
    shutil.copytree(half / "last-state", folder / "last-state")
    return folder


def trained(bench: Path, changes: dict) -> Path:
    """Train in a folder of its own; returns the run's folder."""
    return train_once(bench, tuple(sorted((name, repr(value)) for name, value in changes.items())), Changes(changes))


class Changes(dict):
    """Options that the memory of runs does not look at: their key beside them says it all."""

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other) -> bool:
        return True


@lru_cache(maxsize=None)
def train_once(bench: Path, key: tuple, changes: Changes) -> Path:
    """The run's folder; the same options are trained once."""
    case = Path(tempfile.mkdtemp(prefix="case-", dir=bench))
    options = {name: value.replace("{run}", str(case / "run")) if isinstance(value, str) else value for name, value in (BASE | changes).items()}
    options = {"runs_dir": "runs"} | options
    places = {name: case / options[name] for name in ("output_dir", "runs_dir", "run_dir", "logging_dir") if options.get(name)}
    child = start(["train_network", *as_flags(options | places)], case / "log.txt", bench)
    child.join()
    assert child.exitcode == 0, (case / "log.txt").read_text()
    return next(case.rglob("events.jsonl")).parent


def files(run: Path) -> dict[str, bytes]:
    """Every file, also those removed since, by its name with times taken out; of samples the content too."""
    top = next(parent for parent in run.parents if parent.name.startswith("case-"))
    found = {f"saved {Path(event['path']).name}": b"" for event in events(run) if event["kind"] == "saved"}
    for path in sorted(top.rglob("*")):
        if path.is_file():
            found[TIMES.sub("TIME", str(path.relative_to(top)))] = path.read_bytes() if path.suffix == ".png" else b""
    return found


def result(run: Path) -> dict[str, np.ndarray]:
    top = next(parent for parent in run.parents if parent.name.startswith("case-"))
    return tensors(next(path for path in top.rglob("last.safetensors")))


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    """Whether two trained files hold the same tensors (up to rounding)."""
    return one.keys() == other.keys() and all(one[name].dtype == other[name].dtype and one[name].shape == other[name].shape
                                              and np.allclose(one[name], other[name], atol=1e-4) for name in one)


def exactly_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    """Whether two trained files hold the same bytes."""
    return one.keys() == other.keys() and all(one[name].tobytes() == other[name].tobytes() for name in one)


def plan(run: Path) -> dict:
    told = next(event for event in events(run) if event["kind"] == "planned")
    return {name: value for name, value in told.items() if name != "time"}


def words(run: Path) -> dict:
    facts = file_facts(run / "last.safetensors")
    return {name: value for name, value in facts.items() if not OF_THE_MOMENT.match(name)}


CHANGED = {
    "result": lambda one, other: not exactly_same(result(one), result(other)),
    "files": lambda one, other: files(one) != files(other),
    "plan": lambda one, other: plan(one) != plan(other),
    "words": lambda one, other: words(one) != words(other),
}


@pytest.mark.parametrize("name", every_option())
def test_the_example_changes_what_it_says(bench, name):
    value, effect, *others = facts_of(fields_of("train_network")[name][1]).example
    around = AROUND.get(name, {}) | (others[0] if others else {})
    if name in SPECIAL:
        SPECIAL[name](bench)
        return
    with ThreadPoolExecutor(2) as pool:
        plain, changed = pool.map(lambda options: trained(bench, options), ({} if name in ALONE else around, around | {name: value}))
    if effect == "speed":
        assert same(result(plain), result(changed))
        assert WITNESSES[name](bench, around) != WITNESSES[name](bench, around | {name: value})
    else:
        assert CHANGED[effect](plain, changed)


def test_the_same_options_change_nothing(bench):
    """Without this the test above could pass on chance alone."""
    one, other = trained(bench, {}), trained(bench, {"training_comment": None})
    assert one != other
    assert exactly_same(result(one), result(other)) and files(one) == files(other) and plan(one) == plan(other) and words(one) == words(other)


def assert_overwrites(bench: Path) -> None:
    """Without the option the file stays and the run is refused; with it the file is replaced."""
    case = bench / "case-overwrite"
    case.mkdir()
    (case / "last.safetensors").write_bytes(b"mine")
    options = BASE | {"output_dir": str(case), "run_dir": str(case / "run"), "max_train_steps": 1}
    for more, code, kept in (({}, 2, True), ({"overwrite": True}, 0, False)):
        child = start(["train_network", *as_flags(options | more)], case / "log.txt", bench)
        child.join()
        assert child.exitcode == code, (case / "log.txt").read_text()
        assert ((case / "last.safetensors").read_bytes() == b"mine") is kept


def assert_strict(bench: Path) -> None:
    """With the option a broken picture stops the run; without it the others are trained on."""
    case = bench / "case-strict"
    pictures = picture_folder(case / "train" / "1_sks cat", count=2)
    (pictures / "broken.png").write_bytes(b"no picture")
    options = BASE | {"train_data_dir": str(case / "train"), "max_train_steps": 1}
    for more, code in (({"strict_images": True, "run_dir": str(case / "strict")}, 2), ({"run_dir": str(case / "lenient")}, 0)):
        child = start(["train_network", *as_flags(options | more)], case / "log.txt", bench)
        child.join()
        assert child.exitcode == code, (case / "log.txt").read_text()
    assert plan(case / "lenient")["left_out"] == 1


SPECIAL = {"overwrite": assert_overwrites, "strict_images": assert_strict}


def options_of(bench: Path, changes: dict):
    """The config of such a run."""
    from backend.config.config import make_config

    values = {name: value for name, value in (BASE | changes).items() if value is not None}
    paths = {name: str(bench / values[name]) for name in ("pretrained_model_name_or_path", "train_data_dir")}
    return make_config("train_network", values | paths)


def bytes_kept_for_backward(bench: Path, changes: dict) -> int:
    """What the denoiser's forward pass keeps in memory until the backward pass."""
    from backend.methods.registry import make_method
    from backend.models.registry import load_model

    config = options_of(bench, changes)
    model = load_model(config, torch.float32)
    make_method(config, 1).prepare(model)
    model.save_memory(config.training.gradient_checkpointing, config.training.sdpa)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.nbytes) or tensor, lambda tensor: tensor):
        said = model.predict(torch.zeros(1, 4, 16, 16), torch.tensor([5]), model.encode_text(model.tokenize(["a cat"])))
    said.sum().backward()
    return sum(kept)


def deterministic_kernels(bench: Path, changes: dict) -> bool:
    """Whether torch is told to refuse kernels that are not repeatable."""
    from backend.training.processes import Processes

    try:
        Processes(options_of(bench, changes).training)
        return torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def pixels_in_batches(bench: Path, changes: dict) -> bool:
    """Whether the run encoded all pictures before its first step."""
    return "Encoding" in (trained(bench, changes) / "log.txt").read_text()


def encoded_at_once(bench: Path, changes: dict) -> list[int]:
    """How many pictures the encoder is given at a time."""
    from backend.data.cache import LatentCache
    from backend.data.records import scan
    from backend.data.subsets import read_datasets
    from backend.models.model import LatentDistribution

    options, sizes = options_of(bench, changes).data, []

    def encode(pixels):
        sizes.append(len(pixels))
        return LatentDistribution(pixels, pixels)

    LatentCache.build(scan(read_datasets(options), options), encode, options.vae_batch_size, "cpu")
    return sizes


def worker_processes(bench: Path, changes: dict) -> list[int]:
    """How many worker processes each epoch has, and how many different ones there were over three epochs."""
    from backend.data.loader import Loader
    from backend.data.plan import Columns, RunPlan
    from backend.data.records import scan
    from backend.data.subsets import read_datasets

    options = options_of(bench, changes).data
    records = scan(read_datasets(options), options)
    before, seen, most = set(psutil.Process().children()), set(), 0
    for _ in Loader(records, options, lambda captions: {}, 1).steps(RunPlan(Columns.of(records), 1, 1, 1, 1, 3).steps()):
        now = set(psutil.Process().children()) - before
        seen, most = seen | now, max(most, len(now))
    return [most, len(seen)]


WITNESSES = {
    "gradient_checkpointing": bytes_kept_for_backward, "sdpa": bytes_kept_for_backward, "deterministic": deterministic_kernels,
    "cache_latents": pixels_in_batches, "vae_batch_size": encoded_at_once,
    "max_data_loader_n_workers": worker_processes, "persistent_data_loader_workers": worker_processes}
