"""How a run begins: anew in a new folder, or where a state left off. Imports no torch."""

import hashlib
import random
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from backend.checkpoints.manifest import find_state, read_manifest
from backend.config.config import Config
from backend.config.door import Prepared
from backend.config.toml_file import write_config
from backend.data.records import Records
from backend.faults import Faults
from backend.runs.folder import RunFolder
from backend.sampling.prompts import Prompt

PARTS, PART_BYTES = 64, 1 << 16  # what is read of a weights file to know it again: pieces from all over it


@dataclass(frozen=True)
class Place:
    """This process among its fellows."""

    index: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.index == 0


@dataclass(frozen=True)
class Beginning:
    """All that the loop starts from."""

    config: Config  # with a seed, if this process is the first
    records: Records
    prompts: list[Prompt]
    warnings: list[str]
    folder: RunFolder | None  # the first process's alone
    state: Path | None  # to go on from
    settings: dict[str, Any]  # what states of this run say they belong to
    started_at: float

    @property
    def output_dir(self) -> Path | None:
        """Where trained files go."""
        return Path(self.config.saving.output_dir or self.folder.path) if self.folder else None


def begin(prepared: Prepared, place: Place) -> Beginning:
    """Settle the seed and the folder. Raises Faults where a state belongs to other pictures or another number of processes."""
    config, state, found = prepared.config, None, {}
    if config.saving.resume:
        state = find_state(config.saving.resume, config.saving.output_name)
        found = read_manifest(state)["settings"]
    if config.training.seed is None:
        config = config.replace(seed=found.get("seed", random.SystemRandom().randrange(2**32)))
    settings = {**config.values(), "data": prepared.records.fingerprint(), "processes": place.count,
                "base": [weights_identity(config.model.pretrained_model_name_or_path), weights_identity(config.model.vae)]}
    refuse_other_run(found, settings)
    folder = open_folder(config, state, found) if place.first else None
    settings["run_folder"] = str(folder.path.absolute()) if folder else ""
    return Beginning(config, prepared.records, prepared.prompts, prepared.warnings, folder, state, settings, time.time())


def weights_identity(path: str | None) -> str | None:
    """A hash that tells weights apart wherever they lie and however they are called; quick, since only parts are read. None without a path."""
    if not path:
        return None
    root, digest = Path(path), hashlib.sha256()
    files = [root] if root.is_file() else sorted(file for file in root.rglob("*") if file.suffix in (".safetensors", ".bin"))
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.relative_to(root).as_posix()} {size}\n".encode("utf-8", "surrogateescape"))
        with open(file, "rb") as opened:
            for part in range(PARTS):
                opened.seek(size * part // PARTS)
                digest.update(opened.read(PART_BYTES))
    return digest.hexdigest()


def refuse_other_run(found: dict[str, Any], settings: dict[str, Any]) -> None:
    """Raises Faults where the state's pictures, model or processes are not those of now: it would be gone on from as another run."""
    faults = []
    if found and found.get("data") != settings["data"]:
        faults.append("resume: the state belongs to other pictures: files, sizes, repeats or batch sizes of the data have changed since. "
                      "Bring them back, or begin a new run from the trained file with network_weights.")
    if found and found.get("base") != settings["base"]:
        faults.append("resume: the state was trained beside another model: what pretrained_model_name_or_path or vae holds is not what it was. "
                      "Name the files that the run began with, or begin a new run from the trained file with network_weights.")
    if found and found.get("processes") != settings["processes"]:
        faults.append(f"resume: the state was made by {found.get('processes')} processes, now there are {settings['processes']}. "
                      "Start as many, or begin a new run from the trained file with network_weights.")
    if faults:
        raise Faults(*faults)


def open_folder(config: Config, state: Path | None, found: dict[str, Any]) -> RunFolder:
    """The run's folder, with its config.toml: the one that a state came from, where it is still there, else as the options say."""
    options = config.run
    earlier = Path(found.get("run_folder", ""))
    if found and not options.run_dir and (earlier / "events.jsonl").is_file():
        options = options.model_copy(update={"run_dir": str(earlier)})
    # The folder may have been moved along with its states.
    own = [place.resolve() for place in (earlier, state.parent)] if state else []
    resuming = bool(options.run_dir) and Path(options.run_dir).resolve() in own
    folder = RunFolder.create(options, config.saving.output_name, datetime.now(), resuming)
    # Without these two the file can be run again as it is.
    write_config(folder.config, config.replace(run_dir=None, resume=None))
    return folder
