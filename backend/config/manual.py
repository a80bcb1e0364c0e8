"""The manual of all options, made from their declarations: docs/OPTIONS.md."""

from pydantic.fields import FieldInfo

from backend.config.commands import COMMANDS, Command
from backend.config.describe import flag, type_in_words, value_in_words
from backend.config.help import SOURCES
from backend.config.option import Facts, Options, default_of, facts_of
from backend.config.values import range_in_words, shown
from backend.data.options import DataOptions, SubsetOptions

INTRODUCTION = """# Options

This page is made from the program's own declarations by `python -m backend manual`; do not edit it by hand.

Every option is a flag of its command (`--name value`), and a key of a config file in TOML (`name = value`). Defaults give way to a preset,
the preset to the config file, and the config file to flags. What is on or off is written `--name` or `--no_name`; several values follow one
another: `--name value value`. Sections of a config file may have any name, or be left out."""

EFFECTS = {
    "result": "the trained weights", "files": "which files are written", "plan": "how long, or from what, is trained",
    "speed": "speed or memory", "words": "words only"}
LEVELS = {"general": "general", "datasets": "data set", "subsets": "subset"}


def manual() -> str:
    """The whole manual in Markdown."""
    parts = [INTRODUCTION, sources()]
    parts.extend(command_section(command) for command in COMMANDS.values())
    parts.append(dataset_section())
    return "\n\n".join(parts) + "\n"


def sources() -> str:
    """The flags that say where options come from."""
    return "\n".join(f"- `{title}`: {words}" for title, words in SOURCES)


def command_section(command: Command) -> str:
    """A command with all its groups."""
    parts = [f"## {command.name}", command.summary]
    parts.extend(group_section(group, command.name) for group in command.groups)
    return "\n\n".join(parts)


def group_section(group: type[Options], command: str) -> str:
    """A group with all its options."""
    entries = [option_entry(name, field, command) for name, field in group.model_fields.items() if facts_of(field).flag]
    return "\n\n".join([f"### {group.__doc__.strip().rstrip('.')}", *entries])


def option_entry(name: str, field: FieldInfo, command: str) -> str:
    """An option: what it does, then its facts as a list."""
    facts = facts_of(field)
    heading = f"#### {name}{' (advanced)' if facts.advanced else ''}"
    return "\n".join([heading, "", plain(facts.help), "", *(f"- {title}: {words}" for title, words in entries(name, field, command) if words)])


def entries(name: str, field: FieldInfo, command: str) -> list[tuple[str, str]]:
    """An option's facts with their titles; empty where there is nothing to tell."""
    facts = facts_of(field)
    return [
        ("Flag", f"`{flag(name, field)}`" if facts.flag else ""),
        ("Value", type_in_words(field)),
        ("Range", range_in_words(facts)),
        ("Unit", facts.unit),
        ("Default", value_in_words(default_of(field, command))),
        ("Also called", ", ".join(facts.aliases)),
        ("Matters with", facts.shown_when),
        ("In a dataset file", ", ".join(LEVELS[level] for level in facts.levels)),
        ("A resumed run may change it", "yes" if facts.may_change else ""),
        ("Example", example(name, facts)),
    ]


def example(name: str, facts: Facts) -> str:
    """Another value, what it needs, and what it changes."""
    value, effect, *needs = facts.example
    needed = "".join(f", with `{other} = {shown(setting)}`" for other, setting in (needs[0] if needs else {}).items())
    return f"`{name} = {shown(value)}`{needed} (changes {EFFECTS[effect]})"


def dataset_section() -> str:
    """The keys of a dataset file, with the levels at which each may stand."""
    rows = [row(name, field) for group in (SubsetOptions, DataOptions) for name, field in group.model_fields.items() if facts_of(field).levels]
    return "\n".join([
        "## Dataset files", "",
        "The file named by `dataset_config`, in TOML or JSON: a table `general`, a list `datasets`, and in each a list `subsets`. A key counts for",
        "everything below the place where it stands; the nearest place wins, then the command line, then the default. `batch_size` is the file's",
        "usual name for `train_batch_size`.", "",
        "| key | may stand in | value | default | what it does |", "| --- | --- | --- | --- | --- |", *rows])


def row(name: str, field: FieldInfo) -> str:
    """A key of a dataset file as a row of the table."""
    facts = facts_of(field)
    cells = [f"`{name}`", ", ".join(LEVELS[level] for level in facts.levels), type_in_words(field), value_in_words(default_of(field)), plain(facts.help)]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def plain(words: str) -> str:
    """Words that Markdown leaves as they are: <repeats> is no HTML."""
    return words.replace("<", "\\<").replace("*", "\\*")
