"""Run what waits in the queue, one run after the other."""

from pathlib import Path

from backend.config.option import Options, option


class WorkerOptions(Options):
    """The worker, which the page starts by itself."""

    state_dir: str = option(
        ".darkroom", "Folder of the queue: on this machine, not on a network drive.", path="output folder", example=("my_state", "files"))


def run(config) -> int:
    """Work until ended by Ctrl-C; a trainer that runs then goes on. Returns the exit code. Raises Faults where another worker is at it."""
    from backend.runs.worker import work

    try:
        work(Path(config.worker.state_dir).absolute())
    except KeyboardInterrupt:
        print("The worker has ended. A run in progress goes on; the next worker finds it.")
    return 0
