"""Options of what is written: weights to take home, states to go on from."""

from typing import Literal

from backend.config.option import Options, option


class SavingOptions(Options):
    """Files: names, when they are written, which are kept."""

    output_dir: str | None = option(
        None, "Folder for the trained files. Empty: the run's own folder.", path="output folder", example=("elsewhere", "files"), may_change=True)
    output_name: str = option(
        "last", "Name of the trained files, without ending.", example=("cat", "files"), may_change=True)
    save_model_as: Literal["safetensors", "ckpt", "pt"] = option(
        "safetensors", "File format of the trained files. safetensors is the one that every program reads.", example=("pt", "files"),
        may_change=True, advanced=True)
    save_precision: Literal["float", "fp16", "bf16"] | None = option(
        None, "Number format of the trained files. Empty: as trained (float).", example=("fp16", "result"), may_change=True)
    overwrite: bool = option(
        False, "Replace trained files that already exist under the same name.", example=(True, "files"), may_change=True)
    save_every_n_epochs: int | None = option(
        None, "Also save after every so many epochs.", minimum=1, example=(1, "files"), may_change=True, unit="epochs")
    save_every_n_steps: int | None = option(
        None, "Also save after every so many steps.", minimum=1, example=(1, "files"), may_change=True, unit="steps")
    save_last_n_epochs: int | None = option(
        None, "Of the files saved by epoch keep only the last so many.", minimum=1, example=(1, "files", {"save_every_n_epochs": 1}),
        may_change=True, unit="files", advanced=True)
    save_last_n_epochs_state: int | None = option(
        None, "The same for states; empty: as save_last_n_epochs.", minimum=1, example=(1, "files", {"save_every_n_epochs": 1, "save_state": True}), may_change=True, unit="states", advanced=True)
    save_last_n_steps: int | None = option(
        None, "Of the files saved by step keep only those of the last so many steps.", minimum=1, example=(1, "files", {"save_every_n_steps": 1}),
        may_change=True, unit="steps", advanced=True)
    save_last_n_steps_state: int | None = option(
        None, "The same for states; empty: as save_last_n_steps.", minimum=1, example=(1, "files", {"save_every_n_steps": 1, "save_state": True}), may_change=True, unit="steps", advanced=True)
    save_state: bool = option(
        False, "With every saved file, and at the end, write a state folder from which training goes on exactly.", example=(True, "files"), may_change=True)
    save_state_on_train_end: bool = option(
        False, "Write a state folder at the end only.", example=(True, "files"), may_change=True, advanced=True)
    rolling_state_minutes: float = option(
        5.0, "Keep one state in the run folder that is no older than this, so that a power cut costs minutes. 0: none.",
        minimum=0, example=(0.0, "files"), may_change=True, unit="minutes", advanced=True)
    resume: str | None = option(
        None, "Go on from a state: the state folder, or the folder that holds states (then the newest whole one).",
        path="state folder", example=("last-state", "plan"), may_change=True)
    no_metadata: bool = option(
        False, "Store only the few facts in the file that other programs need to load it.", example=(True, "words"), may_change=True, advanced=True)
    training_comment: str | None = option(
        None, "A word of your own, stored in the trained file.", example=("my first", "words"), may_change=True, advanced=True)
