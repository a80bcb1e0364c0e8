"""Config files in TOML: what sd-scripts' users have, and the complete file that a run can be repeated from."""

import json
import tomllib
from pathlib import Path
from typing import Any

from backend.config.config import Config, make_config
from backend.config.option import default_of, facts_of, group_name
from backend.config.commands import COMMANDS
from backend.faults import FaultList, Faults
from backend.files import written_whole


def config_path(path: str | Path) -> Path:
    """The file that is meant: `.toml` may be left off."""
    path = Path(path).expanduser()
    if path.suffix.lower() == ".toml" or path.is_file():
        return path
    return path.with_name(path.name + ".toml")


def read_values(path: str | Path) -> dict[str, Any]:
    """The values of a TOML file by option name; sections of any name are taken apart. Raises Faults."""
    path = config_path(path)
    return flattened(read_toml(path), path)


def read_toml(path: Path) -> dict[str, Any]:
    """The file as TOML. Raises Faults where it is missing or cannot be read."""
    try:
        # Windows' editors may put a byte order mark in front.
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as fault:
        raise Faults(f"{path} cannot be read: {fault.strerror or fault}. Give the path of a config file in TOML.") from None
    except UnicodeDecodeError as fault:
        raise Faults(f"{path} is not UTF-8 text (byte {fault.start}); save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as fault:
        raise Faults(f"{path} is not valid TOML: {fault}.{path_hint(str(fault))}") from None


def path_hint(fault: str) -> str:
    """What to do where the fault looks like a Windows path in double quotes."""
    if "escape" in fault or "hex value" in fault:
        return " A Windows path needs 'single quotes', or / instead of \\."
    return ""


def flattened(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Sections taken apart, one level deep. Raises Faults for deeper ones, and for a name with two values."""
    faults, values, places = FaultList(), {}, {}
    for section, names in sections_of(content):
        for name, value in names.items():
            if is_table(value):
                faults.add(table_fault(name, section, path))
            elif name in values and values[name] != value:
                faults.add(f"{name} in {path} has two values, in {places[name]} and in [{section}]; keep one of them.")
            else:
                values[name] = value
                places[name] = f"[{section}]" if section else "no section"
    faults.raise_if_any()
    return values


def sections_of(content: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """What stands in no section, then each section, with its name."""
    loose = {name: value for name, value in content.items() if not isinstance(value, dict)}
    return [("", loose), *((name, value) for name, value in content.items() if isinstance(value, dict))]


def is_table(value: Any) -> bool:
    """Whether a value is a table, or a list with tables."""
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(part, dict) for part in value))


def table_fault(name: str, section: str, path: Path) -> str:
    """The sentence for a table where a value should stand."""
    if name in ("datasets", "subsets"):
        return f"{name} in {path} describes data sets; put that into a file of its own, and name it as dataset_config."
    return f"{f'{section}.' if section else ''}{name} in {path} is a section within a section; options stand one level deep at most."


def write_config(path: str | Path, config: Config) -> None:
    """Write every option of a config, secrets left out; the file takes its name only once it reads back the same. Raises Faults."""
    path = config_path(path)
    try:
        content = config_text(config).encode("utf-8")
    except UnicodeEncodeError as fault:
        raise Faults(f"{path} was not written: {fault.object[fault.start:fault.end]!r} is no text that a file can hold. Rename what has it in its name.") from None
    with written_whole(path) as draft:
        draft.write_bytes(content)
        again = make_config(config.command, read_values(draft)).values()
        wanted = {name: value for name, value in config.values().items() if not is_secret(config, name)}
        changed = [name for name, value in wanted.items() if again[name] != value]
        if changed:
            raise Faults(f"{path} was not written: {', '.join(changed)} cannot be said in TOML.")


def config_text(config: Config) -> str:
    """The config as TOML, one section for each group."""
    import toml

    sections = {group_name(group): section(config, group) for group in COMMANDS[config.command].groups}
    encoder = toml.TomlEncoder()
    encoder.dump_funcs[str] = quoted
    encoder.dump_funcs[list] = lambda values: f"[{', '.join(str(encoder.dump_value(value)) for value in values)}]"
    body = toml.dumps({name: values for name, values in sections.items() if values}, encoder=encoder)
    return f"# python -m backend {config.command} --config_file THIS_FILE\n\n{body}"


def section(config: Config, group: type) -> dict[str, Any]:
    """A group's values as TOML knows them: an option that has no value, by default too, is left out."""
    values = getattr(config, group_name(group))
    kept = {}
    for name, field in group.model_fields.items():
        value = getattr(values, name)
        if facts_of(field).secret or value is None and default_of(field, config.command) is None:
            continue
        kept[name] = "" if value is None else value  # TOML has no word for none
    return kept


def is_secret(config: Config, name: str) -> bool:
    """Whether an option's value must not be written."""
    return any(name in group.model_fields and facts_of(group.model_fields[name]).secret for group in COMMANDS[config.command].groups)


def quoted(text: str) -> str:
    """A TOML string. JSON's escapes are TOML's too, but for the delete character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
