"""How long until the first step, how long a step takes, how much memory it needs.

    python benchmarks/training.py [--model FILE] [--resolution 512] [--batch 1] [--steps 30] [-- further options]

Each round trains in a fresh process, as a user would, on the demo's pictures. The last line printed is JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def main() -> None:
    arguments = read_arguments()
    with tempfile.TemporaryDirectory() as folder:
        rounds = [measure(arguments, Path(folder) / str(number)) for number in range(arguments.rounds)]
    for figures in rounds:
        print(", ".join(f"{name} {value}" for name, value in figures.items()))
    result = {name: statistics.median(figures[name] for figures in rounds) for name in rounds[0] if name != "device"}
    print(json.dumps({"benchmark": "training", "model": arguments.model or "demo", "device": rounds[0]["device"],
                      "resolution": arguments.resolution, "batch": arguments.batch, "rounds": len(rounds), **result}))


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a model file or folder; the demo's tiny model if left out")
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("further", nargs="*", help="further options of train_network, after --")
    return parser.parse_args()


def measure(arguments: argparse.Namespace, folder: Path) -> dict:
    """Train once in a process of its own; returns its figures. Seconds, and MiB."""
    from backend.demo.model import demo_model
    from backend.demo.pictures import make_demo_pictures

    folder.mkdir(parents=True)
    model = arguments.model or demo_model(folder)
    make_demo_pictures(folder / "pictures")
    command = [sys.executable, "-m", "backend", "train_network", "--pretrained_model_name_or_path", str(model),
               "--train_data_dir", str(folder / "pictures"), "--resolution", str(arguments.resolution),
               "--train_batch_size", str(arguments.batch), "--max_train_steps", str(arguments.steps), "--enable_bucket",
               "--min_bucket_reso", "64", "--run_dir", str(folder / "run"), "--seed", "1", "--learning_rate", "1e-4", "--cache_latents",
               "--rolling_state_minutes", "0", *arguments.further]
    started = time.time()
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if ended.returncode:
        sys.exit(ended.stderr)
    return figures_of(folder / "run", started)


def figures_of(run: Path, started: float) -> dict:
    """What the run's events say of its speed and memory."""
    from backend.runs.events import read_events

    events = read_events(run / "events.jsonl")
    steps = [event for event in events if event["kind"] == "step"]
    finished = next(event for event in events if event["kind"] == "finished")
    # The first tenth warms up (compiled kernels, caches) and is not counted.
    counted = steps[max(1, len(steps) // 10):]
    seconds = (counted[-1]["time"] - counted[0]["time"]) / (len(counted) - 1)
    return {"device": finished["device"], "seconds_to_first_step": round(steps[0]["time"] - started, 2), "seconds_per_step": round(seconds, 4),
            "peak_memory_mib": finished["peak_memory_mib"], "processor_count": os.cpu_count()}


if __name__ == "__main__":
    main()
