"""Options of the run as seen from outside: where its folder and its logs are."""

from backend.config.option import Options, option


class RunOptions(Options):
    """Where the run is kept."""

    runs_dir: str = option(
        "runs", "Folder that holds the run folders.", path="output folder", example=("other_runs", "files"), may_change=True, advanced=True)
    run_dir: str | None = option(
        None, "This run's own folder. Empty: a new one in runs_dir, named by time and output_name.", path="output folder",
        example=("my_run", "files"), may_change=True, advanced=True)
    logging_dir: str | None = option(
        None, "Folder for the TensorBoard log; each run gets a folder in it, named by time. Empty: the run's own folder.",
        path="output folder", example=("logs", "files"), may_change=True)
    log_prefix: str = option(
        "", "Word put before the time in the name of the log's folder.", example=("cat_", "files", {"logging_dir": "logs"}), may_change=True, shown_when="logging_dir", advanced=True)
