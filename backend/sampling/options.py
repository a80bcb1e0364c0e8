"""Options of the pictures drawn while training."""

from typing import Literal

from backend.config.option import Options, option


class SamplingOptions(Options):
    """Sample pictures during training."""

    sample_prompts: str | None = option(
        None, "Text file with the prompts to draw, one a line. After the words may follow --n negative words, --w width, --h height, --d seed, --l scale, --s steps.",
        path="text file", example=("prompts.txt", "files", {"sample_every_n_steps": 1}), may_change=True)
    sample_every_n_epochs: int | None = option(
        None, "Draw after every so many epochs. Wins over sample_every_n_steps.", minimum=1, example=(1, "files", {"sample_prompts": "prompts.txt"}), may_change=True, unit="epochs")
    sample_every_n_steps: int | None = option(
        None, "Draw after every so many steps.", minimum=1, example=(1, "files", {"sample_prompts": "prompts.txt"}), may_change=True, unit="steps")
    sample_at_first: bool = option(
        False, "Also draw before the first step, to compare.", example=(True, "files", {"sample_prompts": "prompts.txt"}), may_change=True)
    sample_sampler: Literal[
        "ddim", "pndm", "lms", "euler", "euler_a", "heun", "dpm_2", "dpm_2_a", "dpmsolver", "dpmsolver++", "dpmsingle",
        "k_lms", "k_euler", "k_euler_a", "k_dpm_2", "k_dpm_2_a"] = option(
        "ddim", "How samples are drawn from noise.", example=("k_euler_a", "files", {"sample_prompts": "prompts.txt", "sample_every_n_steps": 1}), may_change=True)
