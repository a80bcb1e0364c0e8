"""Write the manual of all options."""

from pathlib import Path

from backend.config.option import Options, option


class ManualOptions(Options):
    """The manual."""

    output: str = option("docs/OPTIONS.md", "The file to write.", path="text file", example=("manual.md", "files"))


def run(config) -> int:
    """Write the manual to config.manual.output; returns the exit code."""
    from backend.config.manual import manual
    from backend.files import write_text

    write_text(Path(config.manual.output), manual())
    print(f"Wrote {config.manual.output}.")
    return 0
