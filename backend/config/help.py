"""What `--help` prints."""

import textwrap

from pydantic.fields import FieldInfo

from backend.config.commands import COMMANDS
from backend.config.describe import facts_in_words, flag
from backend.config.option import Options, facts_of

WIDTH = 110
INDENT = " " * 6
SOURCES = (
    ("--preset NAME", "Start from a preset: one of presets/ such as lora/demo, a .json file, or a preset of the kohya_ss GUI."),
    ("--config_file FILE", "Read options from a TOML file (.toml may be left off). They win over the preset; flags win over both."),
    ("--output_config [FILE]", "Write all options to FILE, or to config_file, and stop. A file that exists is not replaced."),
)


def overview() -> str:
    """The commands."""
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {command.name:<{width}}{command.summary}" for command in COMMANDS.values()]
    return "\n".join([
        "Darkroom trains Stable Diffusion models.", "", "python -m backend COMMAND --option value ...", "", *lines, "",
        "python -m backend COMMAND --help tells all options of a command."])


def command_help(name: str) -> str:
    """All options of a command, by group; the advanced ones at each group's end."""
    command = COMMANDS[name]
    parts = [f"python -m backend {name} --option value ...", command.summary,
             "An option that is on or off is written --name or --no_name; one with several values --name value value."]
    parts.append("\n".join(["Where options come from", *(entry(title, words) for title, words in SOURCES)]))
    parts.extend(group_help(group, name) for group in command.groups)
    return "\n\n".join(parts)


def group_help(group: type[Options], command: str) -> str:
    """A group's title and options."""
    fields = [(name, field) for name, field in group.model_fields.items() if facts_of(field).flag]
    fields.sort(key=lambda pair: facts_of(pair[1]).advanced)
    return "\n".join([group.__doc__.strip().rstrip("."), *(option_help(name, field, command) for name, field in fields)])


def option_help(name: str, field: FieldInfo, command: str) -> str:
    """An option: its flag, what it does, and its facts."""
    facts = facts_of(field)
    title = name.upper() if facts.positional else flag(name, field)
    found = facts_in_words(field, command) + (["advanced"] if facts.advanced else [])
    return entry(title, f"{facts.help} [{'; '.join(found)}]")


def entry(title: str, words: str) -> str:
    """A title, and words below it."""
    return f"  {title}\n" + textwrap.fill(words, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)
