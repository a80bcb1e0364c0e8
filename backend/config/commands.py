"""Which commands there are, and which groups of options each of them reads."""

from dataclasses import dataclass
from functools import cache

from pydantic.fields import FieldInfo

from backend.checkpoints.options import SavingOptions
from backend.config.option import Options, facts_of, group_name
from backend.data.options import DataOptions
from backend.methods.network.options import NetworkOptions
from backend.models.options import ModelOptions
from backend.models.sd.options import SDOptions
from backend.noise.options import NoiseOptions
from backend.optimizers.options import OptimizerOptions
from backend.runs.options import RunOptions
from backend.sampling.options import SamplingOptions
from backend.tools.demo import DemoOptions
from backend.tools.manual import ManualOptions
from backend.tools.worker import WorkerOptions
from backend.training.options import TrainingOptions


@dataclass(frozen=True)
class Command:
    """Something that can be asked for: `python -m backend NAME`."""

    name: str
    summary: str
    groups: tuple[type[Options], ...]
    method: str = ""  # the training method, or "" for a tool

    @property
    def is_tool(self) -> bool:
        """Whether it is a file of backend/tools instead of a way to train."""
        return not self.method


TRAIN_NETWORK = Command(
    "train_network", "Train a LoRA: a small network beside a model.",
    (RunOptions, ModelOptions, SDOptions, DataOptions, NetworkOptions, NoiseOptions, OptimizerOptions, TrainingOptions, SavingOptions, SamplingOptions),
    method="network")
DEMO = Command("demo", "Train a LoRA on a built-in tiny model and pictures, to see that all works.", (RunOptions, DemoOptions))
MANUAL = Command("manual", "Write the manual of all options.", (ManualOptions,))
WORKER = Command("worker", "Run what waits in the queue, one run after the other.", (WorkerOptions,))

COMMANDS: dict[str, Command] = {command.name: command for command in (TRAIN_NETWORK, DEMO, MANUAL, WORKER)}


@cache
def fields_of(command: str) -> dict[str, tuple[type[Options], FieldInfo]]:
    """Every option of a command by name, with its group, in the order of declaration."""
    return {name: (group, field) for group in COMMANDS[command].groups for name, field in group.model_fields.items()}


@cache
def alias_names(command: str) -> dict[str, str]:
    """The community's old and misspelt names: alias -> the option's name."""
    return {alias: name for name, (_, field) in fields_of(command).items() for alias in facts_of(field).aliases}


def section_of(command: str, name: str) -> str:
    """The name of the group that an option belongs to."""
    return group_name(fields_of(command)[name][0])
