"""The one door: defaults, preset, file and flags are merged as plain dicts and read once."""

import logging
from dataclasses import dataclass, field
from typing import Any

from backend.config.commands import COMMANDS, alias_names, fields_of
from backend.config.known import is_harmless, is_idle, unknown_name
from backend.config.option import Options, default_of, facts_of, group_name
from backend.config.values import read_value
from backend.faults import FaultList

log = logging.getLogger("darkroom")

# Of two options that settle the same thing the second wins where both stand side by side; one of a higher layer wins all the same.
OUTRANKS = {"max_train_steps": "max_train_epochs", "sample_every_n_steps": "sample_every_n_epochs"}


@dataclass(frozen=True)
class Layer:
    """Values from one place. origin: the file they came from, or "" for flags."""

    values: dict[str, Any]
    origin: str = ""

    def subject(self, name: str) -> str:
        """How a sentence names one of its options."""
        return f"{name} in {self.origin}" if self.origin else name


@dataclass(frozen=True)
class Config:
    """All options of a command, typed and right: `config.optimizer.learning_rate`. Immutable."""

    command: str
    groups: dict[str, Options]
    given: frozenset[str] = field(default_factory=frozenset)  # names that somebody set, in a preset, a file or a flag

    def __getattr__(self, name: str) -> Options:
        # Unpickling asks before there are groups.
        groups = self.__dict__.get("groups", {})
        if name not in groups:
            raise AttributeError(f"no group of options is called {name}")
        return groups[name]

    def values(self) -> dict[str, Any]:
        """Every option by name."""
        return {name: value for group in self.groups.values() for name, value in group}

    def replace(self, **values: Any) -> "Config":
        """The same with other values. Raises Faults."""
        faults = FaultList()
        read = read_layer(self.command, Layer(values), faults)
        faults.raise_if_any()
        return assemble(self.command, {**self.values(), **read}, self.given | set(read))


def make_config(command: str, values: dict[str, Any], origin: str = "") -> Config:
    """A command's config from its defaults and these values. origin: the file they came from. Raises Faults, all at once."""
    return merge_config(command, [Layer(values, origin)])


def merge_config(command: str, layers: list[Layer]) -> Config:
    """A command's config from its defaults and layers of values, later ones over earlier ones. Raises Faults, all at once."""
    faults = FaultList()
    config = merge_readable(command, layers, faults)
    faults.raise_if_any()
    return config


def merge_readable(command: str, layers: list[Layer], faults: FaultList) -> Config:
    """The same, where what cannot be read is told to `faults` and left at its default: so that more can be checked before anything is told."""
    raw = {}
    for layer in layers:
        own = own_names(command, layer, faults)
        for name, outranked in OUTRANKS.items():
            if name in own and outranked not in own:
                raw.pop(outranked, None)
        raw.update({name: (layer, value) for name, value in own.items()})
    read = {}
    for name, (layer, value) in raw.items():
        read.update(read_layer(command, Layer({name: value}, layer.origin), faults))
    defaults = {name: default_of(info, command) for name, (_, info) in fields_of(command).items() if facts_of(info).flag}
    return assemble(command, {**defaults, **read}, frozenset(read))


def own_names(command: str, layer: Layer, faults: FaultList) -> dict[str, Any]:
    """The layer's values by the options' own names: aliases are followed, names that are not ours are told or dropped."""
    found, written = {}, {}
    known = [*fields_of(command), *alias_names(command)]
    for name, value in layer.values.items():
        own = alias_names(command).get(name, name)
        if own not in fields_of(command):
            refuse_unknown(command, layer, name, known, faults)
        elif own in found and str(found[own]) != str(value):
            faults.add(f"{layer.subject(name)} is another name of {written[own]}, which has another value; keep one of them.")
        else:
            found[own], written[own] = value, name
    return found


def refuse_unknown(command: str, layer: Layer, name: str, known: list[str], faults: FaultList) -> None:
    """Tell a name that is no option of the command, unless its value would change nothing."""
    if is_harmless(name, layer.values[name]):
        if is_idle(name, layer.values[name]):
            log.warning("%s is left out: it changes nothing here.%s", layer.subject(name), did_you_mean_epochs(name))
        return
    faults.add(unknown_name(name, layer.subject(name), command, known))


def did_you_mean_epochs(name: str) -> str:
    """The usual GUI's own key is easily taken for an option."""
    return " To train so many epochs, write max_train_epochs." if name == "epoch" else ""


def read_layer(command: str, layer: Layer, faults: FaultList) -> dict[str, Any]:
    """The layer's values as their types; what cannot be read is told."""
    read = {}
    for name, raw in layer.values.items():
        if name not in fields_of(command):
            faults.add(unknown_name(name, layer.subject(name), command, list(fields_of(command))))
            continue
        try:
            read[name] = read_value(name, fields_of(command)[name][1], raw, command, layer.subject(name))
        except ValueError as fault:
            faults.add(str(fault))
    return read


def assemble(command: str, values: dict[str, Any], given: frozenset[str]) -> Config:
    """The groups, made of values that have been read."""
    groups = {group_name(group): group(**{name: values[name] for name in group.model_fields}) for group in COMMANDS[command].groups}
    return Config(command, groups, frozenset(given))
