"""Everything that can be checked before a model is loaded: rules between options, and the files that they name. Torch-free."""

from dataclasses import dataclass, field
from typing import Any, Callable, Sequence

from backend.checkpoints.manifest import check_resume
from backend.config.config import Config
from backend.config.rules import SAMPLE_TRIGGERS, rule_faults, rule_warnings
from backend.data.records import Records, scan
from backend.data.subsets import Dataset, read_datasets
from backend.faults import FaultList, Faults
from backend.methods.network.arguments import check_network_args
from backend.models.registry import check_model_files
from backend.optimizers.checks import check_optimizer
from backend.sampling.prompts import Prompt, read_prompts


@dataclass(frozen=True)
class Prepared:
    """A config that has passed the door, and what was read on the way."""

    config: Config
    datasets: list[Dataset]
    records: Records
    prompts: list[Prompt] = field(default_factory=list)  # to draw while training
    warnings: list[str] = field(default_factory=list)


def check_everything(config: Config, known: Sequence[str] = ()) -> Prepared:
    """The config with its pictures and prompts. Raises Faults: those of all checks together, after those that are known already."""
    faults = FaultList()
    faults.extend(known)
    # Rules between options would misjudge the defaults that stand where something could not be read.
    for check, argument in file_checks(config) if known else [*rule_checks(config), *file_checks(config)]:
        faults.extend(attempt(faults, check, argument) or [])
    datasets = attempt(faults, read_datasets, config.data)
    records = attempt(faults, scan, datasets, config.data) if datasets else None
    draws = config.sampling.sample_prompts and any(getattr(config.sampling, name) for name in SAMPLE_TRIGGERS)
    prompts = attempt(faults, read_prompts, config.sampling.sample_prompts) if draws else []
    faults.raise_if_any()
    return Prepared(config, datasets, records, prompts, rule_warnings(config))


def rule_checks(config: Config) -> list[tuple[Callable, Any]]:
    """The checks of options against each other, each with what it looks at."""
    return [(rule_faults, config), (check_optimizer, config.optimizer), (check_resume, config)]


def file_checks(config: Config) -> list[tuple[Callable, Any]]:
    """The checks of files that options name."""
    return [(check_model_files, config), (check_network_args, config.network)]


def attempt(faults: FaultList, read: Callable, *arguments: Any) -> Any:
    """What a reader gives, or None where it raises Faults, which are kept to be told with the others."""
    try:
        return read(*arguments)
    except Faults as raised:
        faults.extend(raised.messages)
        return None
