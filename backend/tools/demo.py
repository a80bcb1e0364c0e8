"""Train a LoRA on a built-in tiny model and pictures, to see that all works."""

from datetime import datetime
from pathlib import Path
from typing import Any

from backend.config.option import Options, option

PRESET = "lora/demo"
SAMPLE_STEPS = 50  # between two drawings


class DemoOptions(Options):
    """The demo."""

    demo_dir: str = option(
        ".darkroom/demo", "Folder for the demo's model, pictures and prompts.", path="output folder", example=("my_demo", "files"))
    demo_steps: int | None = option(
        None, f"Steps to train. Empty: as the preset {PRESET} says.", minimum=1, example=(3, "result"), unit="steps")


def run(config) -> int:
    """Make what the demo trains on, train as the command would, and say where everything is; returns the exit code."""
    from backend import train
    from backend.config.config import make_config
    from backend.config.door import check_everything
    from backend.runs.folder import RunFolder

    print(f"The demo trains a LoRA for an orange-and-blue emblem, with the preset {PRESET}.", flush=True)
    values = training_values(config.demo)
    folder = RunFolder.create(config.run, values["output_name"], datetime.now())
    values |= {**config.run.model_dump(), "run_dir": str(folder.path)}
    prepared = check_everything(make_config("train_network", values, f"the demo (preset {PRESET})"))
    code = train.run(prepared)
    if code == 0:
        print(farewell(folder, values["output_name"]), flush=True)
    return code


def training_values(options: DemoOptions) -> dict[str, Any]:
    """The preset's options, with the model, pictures and prompts made in demo_dir."""
    from backend.config.presets import load_preset
    from backend.demo.model import demo_model
    from backend.demo.pictures import make_demo_pictures, make_demo_prompts

    folder = Path(options.demo_dir)
    values = dict(load_preset(PRESET, "train_network").values)
    if options.demo_steps:
        values |= {"max_train_steps": options.demo_steps, "save_every_n_steps": None}
    # Drawn before the first step and after the last at least, so that they can be compared.
    values |= {"sample_at_first": True, "sample_every_n_steps": options.demo_steps or SAMPLE_STEPS}
    return values | {
        "pretrained_model_name_or_path": str(demo_model(folder)),
        "train_data_dir": str(make_demo_pictures(folder / "pictures").parent),
        "sample_prompts": str(make_demo_prompts(folder / "prompts.txt")),
    }


def farewell(folder: Any, output_name: str) -> str:
    """What there is now, and where."""
    made = sorted(path.name for path in folder.samples.glob("*.png"))
    lines = ["", "The demo is done.", f"  The LoRA:         {folder.path / (output_name + '.safetensors')}"]
    if made:
        lines += [f"  Sample pictures:  {folder.samples} ({len(made)} of them, from {made[0]} before training to {made[-1]} after it)"]
    lines += [
        f"  The log:          {folder.log}, and the curves in {folder.tensorboard} (tensorboard --logdir shows them)",
        f"  All its settings: {folder.config} (./setup.sh train_network --config_file trains with them again)",
        "The built-in model was never taught anything, so its pictures are only patches of colour: give your own model and pictures next."]
    return "\n".join(lines)
