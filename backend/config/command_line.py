"""The command line: `python -m backend COMMAND --option value …`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_origin

from pydantic.fields import FieldInfo

from backend.config.commands import COMMANDS, alias_names, fields_of
from backend.config.config import Config, Layer, merge_readable
from backend.config.help import command_help, overview
from backend.config.known import DOOR_FLAGS, UNBUILT_COMMANDS, sd_scripts_names
from backend.config.option import facts_of, plain_types
from backend.config.presets import load_preset
from backend.config.toml_file import config_path, read_values
from backend.faults import FaultList, Faults, did_you_mean

HELP = ("--help", "-h")


@dataclass(frozen=True)
class Request:
    """What a command line asks for."""

    command: str = ""
    config: Config | None = None
    output_config: Path | None = None  # write the config there instead of running it
    help: str = ""  # print this instead of running
    notes: list[str] = field(default_factory=list)  # what became of a foreign preset's settings
    faults: list[str] = field(default_factory=list)  # what is wrong with the words; then config has defaults in their place


@dataclass
class Line:
    """A command line taken apart."""

    values: dict[str, Any] = field(default_factory=dict)  # options by name, as written
    door: dict[str, Any] = field(default_factory=dict)  # config_file, output_config, preset
    loose: list[str] = field(default_factory=list)  # words that belong to no flag


def read_command_line(argv: list[str]) -> Request:
    """What these words (without the program's name) ask for. Raises Faults, all at once; those of a training command are in the request."""
    if not argv or argv[0] in (*HELP, "help"):
        return Request(help=overview())
    command, words = argv[0], argv[1:]
    if command.removesuffix(".py") in UNBUILT_COMMANDS:
        raise Faults(f"{command} is known to sd-scripts, but not built here yet. Commands: {', '.join(COMMANDS)}.")
    if command not in COMMANDS:
        raise Faults(f"{command} is not a command.{did_you_mean(command, COMMANDS)} Commands: {', '.join(COMMANDS)}.")
    if any(word in HELP for word in words):
        return Request(command, help=command_help(command))
    faults = FaultList()
    line = take_apart(command, words, faults)
    layers, notes = lower_layers(command, line.door, faults)
    config = merge_readable(command, [*layers, Layer(line.values)], faults)
    output = output_path(line.door, faults)
    # A training command looks at the files as well before it tells anything.
    if COMMANDS[command].is_tool or output:
        faults.raise_if_any()
    return Request(command, config, output, notes=notes, faults=faults.messages)


def lower_layers(command: str, door: dict[str, Any], faults: FaultList) -> tuple[list[Layer], list[str]]:
    """What lies below the flags: the preset, then the config file; and what there is to tell about the preset."""
    layers, notes = [], []
    try:
        if door.get("preset"):
            preset = load_preset(door["preset"], command)
            layers.append(Layer(preset.values, preset.origin))
            notes = preset.notes
    except Faults as more:
        faults.extend(more.messages)
    path = door.get("config_file")
    # A file that is yet to be written has nothing to say.
    if not path or ("output_config" in door and not config_path(path).exists()):
        return layers, notes
    try:
        layers.append(Layer(read_values(path), str(config_path(path))))
    except Faults as more:
        faults.extend(more.messages)
    return layers, notes


def output_path(door: dict[str, Any], faults: FaultList) -> Path | None:
    """Where --output_config writes to: its own value, or else the config file."""
    if "output_config" not in door:
        return None
    path = door["output_config"] or door.get("config_file")
    if not path:
        faults.add("output_config needs the path of the file to write: --output_config my.toml.")
        return None
    return config_path(path)


def take_apart(command: str, words: list[str], faults: FaultList) -> Line:
    """Flags and their values; nothing is read as its type yet."""
    line, rest = Line(), list(words)
    while rest:
        word = rest.pop(0)
        if not is_flag(word):
            line.loose.append(word)
            continue
        name, is_joined, joined = word[2:].partition("=")
        values = [joined] if is_joined else take_values(command, name, rest)
        place(command, line, name, values, faults)
    place_loose(command, line, faults)
    return line


def is_flag(word: str) -> bool:
    """Whether a word names an option. A negative number does not."""
    return word.startswith("--") and len(word) > 2


def take_values(command: str, name: str, rest: list[str]) -> list[str]:
    """The words that belong to a flag, which are taken off the rest."""
    field = own_field(command, name)
    if name in DOOR_FLAGS or (field and not is_list(field)):
        most = 0 if field and is_bool(field) and not (rest and is_yes_or_no(rest[0])) else 1
    else:
        most = len(rest)  # a list, or a flag that is not known: whatever follows
    taken = []
    while rest and len(taken) < most and not is_flag(rest[0]):
        taken.append(rest.pop(0))
    return taken


def own_field(command: str, name: str) -> FieldInfo | None:
    """The option that a flag names, or None."""
    found = fields_of(command).get(alias_names(command).get(name, name))
    return found[1] if found else None


def is_list(field: FieldInfo) -> bool:
    """Whether the option takes several values."""
    return get_origin(plain_types(field.annotation)[0]) is list


def is_bool(field: FieldInfo) -> bool:
    """Whether the option is on or off."""
    return plain_types(field.annotation) == (bool,)


def is_yes_or_no(word: str) -> bool:
    """Whether a word after a flag says on or off."""
    return word.lower() in ("true", "false")


def place(command: str, line: Line, name: str, values: list[str], faults: FaultList) -> None:
    """Put a flag's values where they belong, or tell what is wrong with them."""
    off = name.removeprefix("no_")
    if name in DOOR_FLAGS:
        place_door(line, name, values, faults)
    elif own_field(command, name):
        place_option(line, name, own_field(command, name), values, faults)
    elif name != off and name not in sd_scripts_names() and own_field(command, off) and is_bool(own_field(command, off)):
        if values:
            faults.add(f"no_{off} takes no value; write --no_{off}, or --{off}=false.")
        line.values[off] = False
    else:
        line.values[name] = values[0] if len(values) == 1 else (values or True)


def place_door(line: Line, name: str, values: list[str], faults: FaultList) -> None:
    """One of the flags that say where options come from and go to."""
    if not any(values) and name != "output_config":
        faults.add(f"{name} needs a value: --{name} {'lora/demo' if name == 'preset' else 'my.toml'}.")
    line.door[name] = values[0] if values else None


def place_option(line: Line, name: str, field: FieldInfo, values: list[str], faults: FaultList) -> None:
    """An option with the words that follow it."""
    if is_bool(field):
        line.values[name] = values[0] if values else True
    elif is_list(field):
        # A reader such as that of resolution takes "512,768" as one word.
        line.values[name] = values[0] if len(values) == 1 and facts_of(field).read else values
    elif values:
        line.values[name] = values[0]
    else:
        faults.add(f"{name} needs a value: --{name} {facts_of(field).example[0]}.")


def place_loose(command: str, line: Line, faults: FaultList) -> None:
    """Words that follow no flag are the positionals, in order of declaration."""
    positionals = [name for name, (_, field) in fields_of(command).items() if facts_of(field).positional]
    for word in line.loose:
        if not positionals:
            faults.add(f'"{word}" belongs to no option; an option is written as --name value.')
            continue
        line.values[positionals.pop(0)] = word
