"""Options that only Stable Diffusion 1.x and 2.x know."""

from backend.config.option import Options, option


class SDOptions(Options):
    """Stable Diffusion 1.x."""

    clip_skip: int | None = option(
        None, "Take the text encoder's output this many layers from the end: 2 for models trained so. Empty or 1: the last layer.",
        minimum=1, example=(2, "result"), advanced=True, unit="layers")
