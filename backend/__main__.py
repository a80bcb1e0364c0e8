"""python -m backend COMMAND ..."""

import importlib
import logging
import os
import sys

from backend.config.commands import COMMANDS
from backend.config.command_line import Request, read_command_line
from backend.faults import Faults

RAN, FAILED, MENDABLE, INTERRUPTED = 0, 1, 2, 130

log = logging.getLogger("darkroom")


def main(argv: list[str]) -> int:
    """Do what the words of the command line ask for; returns the exit code."""
    # Threads that wait for each other spin for a while first; where other programs use the processor too, a long while costs dearly.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # Other libraries have their say only where something failed.
    logging.basicConfig(level=logging.CRITICAL, format="%(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)
    try:
        request = read_command_line(argv)
        for note in request.notes:
            log.warning(note)
        return answer(request)
    except Faults as faults:
        tell(faults)
        return MENDABLE


def answer(request: Request) -> int:
    """Print help, write the config, or run the command. Raises Faults."""
    if request.help:
        print(request.help)
        return RAN
    if request.output_config:
        return write(request)
    return run_tool(request) if COMMANDS[request.command].is_tool else train(request)


def write(request: Request) -> int:
    """Write the complete config instead of running it; an existing file stays."""
    from backend.config.toml_file import write_config

    if request.output_config.exists():
        log.error("%s already exists and is not replaced; give another name, or remove it.", request.output_config)
        return FAILED
    write_config(request.output_config, request.config)
    print(f"Wrote {request.output_config}.")
    return RAN


def train(request: Request) -> int:
    """Check everything that can be checked without loading a model, then train."""
    from backend.config.door import check_everything
    from backend.runs.beginning import Place

    # Launchers tell each process its place in the environment; one of them is enough to speak.
    place = Place(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))
    if not place.first:
        log.setLevel(logging.ERROR)
    prepared = check_everything(request.config, request.faults)
    if request.config.training.deterministic:
        # CUDA's matrix library reads this once, when it is loaded.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    from backend.train import run

    return run(prepared, place)


def run_tool(request: Request) -> int:
    """Run one of backend/tools."""
    return importlib.import_module(f"backend.tools.{request.command}").run(request.config)


def tell(faults: Faults) -> None:
    """Each fault on a line of its own."""
    dash = "- " if len(faults.messages) > 1 else ""
    for message in faults.messages:
        print(f"{dash}{message}", file=sys.stderr)


if __name__ == "__main__":
    try:
        code = main(sys.argv[1:])
    except KeyboardInterrupt:
        print("Ended before anything was begun.", file=sys.stderr)
        code = INTERRUPTED
    except BrokenPipeError:
        # Whoever read the help has seen enough; nothing more may be written, not even at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = RAN
    sys.exit(code)
