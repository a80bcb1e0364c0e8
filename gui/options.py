"""The words that follow `./setup.sh gui`, declared and read as the trainer's options are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from backend.config.command_line import HELP, is_bool, is_flag, is_list, is_yes_or_no
from backend.config.describe import flag
from backend.config.help import option_help
from backend.config.option import Options, default_of, facts_of, option
from backend.config.toml_file import config_path, read_values
from backend.config.values import read_value
from backend.faults import FaultList, Faults, did_you_mean

EVERYWHERE = "0.0.0.0"
ALIASES = {"host": "listen", "port": "server_port"}


class PageOptions(Options):
    """The page and who may see it."""

    listen: str = option(
        "127.0.0.1", "Address to listen at. 127.0.0.1: this machine only. --listen alone, or 0.0.0.0: every network; then a login is needed.",
        aliases=("host",), example=("0.0.0.0", "words"))
    server_port: int = option(7860, "Port to listen at.", minimum=1, maximum=65535, aliases=("port",), example=(7861, "words"))
    share: bool = option(False, "Also give the page a public address, through Gradio's tunnel; then a login is needed.", example=(True, "words"))
    inbrowser: bool = option(False, "Open the page in this machine's browser.", example=(True, "words"))
    headless: bool = option(False, "This machine has no screen: no browser is opened, whatever inbrowser says.", example=(True, "words"))
    username: str = option("", "Name to sign in with. Empty, where a login is needed: darkroom.", example=("ann", "words"))
    password: str = option(
        "", "Password to sign in with; in the file of config it is hidden from other users of this machine. Empty, where a login is needed: one is made up and printed.",
        secret=True, example=("secret", "words"))
    language: Literal["en", "zh-CN", "ja"] | None = option(None, "Language of the page. Empty: the browser's.", example=("ja", "words"))
    root_path: str = option("", "The path under which a web server in front of the page shows it, such as /darkroom.", example=("/darkroom", "words"))
    config: str = option("", "A TOML file with these options. Flags win over it.", path="config file", example=("page.toml", "words"))
    allowed_paths: list[str] = option([], "Folders that the page may list and read besides the runs, where it is shared.", example=(["pictures"], "words"))
    state_dir: str = option(".darkroom", "Folder for the queue of runs; on this machine's own disk.", path="output folder", example=("state", "files"))
    runs_dir: str = option("runs", "Folder that holds the run folders.", path="output folder", example=("other_runs", "files"))


@dataclass(frozen=True)
class PageRequest:
    """What the words ask for: the page with these options, or help to print."""

    options: PageOptions
    help: str = ""


def read_page_words(words: list[str]) -> PageRequest:
    """The page's options from a command line. Raises Faults, all at once."""
    if any(word in HELP for word in words):
        return PageRequest(PageOptions(), page_help())
    faults = FaultList()
    flags = take_flags(words, faults)
    file = {}
    if flags.get("config"):
        try:
            file = own_names(read_values(flags["config"]), f" in {config_path(flags['config'])}", faults)
        except Faults as more:
            faults.extend(more.messages)
    options = read_options({**file, **flags}, faults)
    faults.raise_if_any()
    return PageRequest(options)


def page_help() -> str:
    """All options of the page."""
    lines = [option_help(name, field, "") for name, field in PageOptions.model_fields.items()]
    return "\n".join(["./setup.sh gui --option value ...", "Opens the page in which everything can be done by clicks.", "", *lines])


def take_flags(words: list[str], faults: FaultList) -> dict[str, Any]:
    """Flags and their values, as written."""
    found, rest = {}, list(words)
    while rest:
        word = rest.pop(0)
        if not is_flag(word):
            faults.add(f'"{word}" belongs to no option; an option is written as --name value.')
            continue
        name, is_joined, joined = word[2:].partition("=")
        name = ALIASES.get(name, name)
        if name not in PageOptions.model_fields:
            faults.add(f"{name} is not an option of the page.{did_you_mean(name, PageOptions.model_fields)}")
            drop_values(rest)
        else:
            found[name] = joined if is_joined else value_after(name, rest, faults)
    return found


def drop_values(rest: list[str]) -> None:
    """Take away the words that belong to a flag that is not known."""
    while rest and not is_flag(rest[0]):
        rest.pop(0)


def value_after(name: str, rest: list[str], faults: FaultList) -> Any:
    """The value that follows a flag, taken off the rest; a flag that may stand alone has its own."""
    field = PageOptions.model_fields[name]
    if is_bool(field):
        return rest.pop(0) if rest and is_yes_or_no(rest[0]) else True
    taken = []
    while rest and not is_flag(rest[0]) and (is_list(field) or not taken):
        taken.append(rest.pop(0))
    if is_list(field):
        return taken
    if taken:
        return taken[0]
    if name == "listen":
        return EVERYWHERE
    faults.add(f"{name} needs a value: {flag(name, field)}.")
    return default_of(field)


def own_names(values: dict[str, Any], place: str, faults: FaultList) -> dict[str, Any]:
    """The values of a file by the options' own names; names that are not ours are told."""
    own = {ALIASES.get(name, name): value for name, value in values.items()}
    for name in sorted(set(own) - set(PageOptions.model_fields)):
        faults.add(f"{name}{place} is not an option of the page.{did_you_mean(name, PageOptions.model_fields)}")
        own.pop(name)
    return own


def read_options(values: dict[str, Any], faults: FaultList) -> PageOptions:
    """The values as their types. What cannot be read is told and left at its default."""
    read = {}
    for name, raw in values.items():
        try:
            read[name] = whole_paths(name, read_value(name, PageOptions.model_fields[name], raw))
        except ValueError as fault:
            # A secret is not repeated on a screen.
            faults.add(f"{name} cannot be read." if facts_of(PageOptions.model_fields[name]).secret else str(fault))
    root = read.get("root_path", "").strip("/")
    read["root_path"] = f"/{root}" if root else ""
    defaults = {name: default_of(field) for name, field in PageOptions.model_fields.items()}
    return PageOptions(**{**defaults, **read})


def whole_paths(name: str, value: Any) -> Any:
    """What was given as a path, seen from where it was written: the page and its runs work in Darkroom's own folder."""
    if name == "allowed_paths":
        return [str(resolved(path)) for path in value]
    return str(resolved(value)) if value and facts_of(PageOptions.model_fields[name]).path else value


def resolved(path: str) -> Path:
    """The folder as a whole path, so that it stays the same wherever a process works."""
    return Path(path).expanduser().resolve()
