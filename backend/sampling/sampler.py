"""Draws a run's sample pictures when they are due."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Callable, Sequence

from backend.models.model import DiffusionModel
from backend.randomness import seed_for
from backend.sampling.files import Drawn, save_sample
from backend.sampling.options import SamplingOptions
from backend.sampling.preview import at_rest, draw
from backend.sampling.prompts import Prompt


@dataclass
class Sampler:
    """Draws all prompts of a run. Used by the first process alone."""

    model: DiffusionModel
    options: SamplingOptions
    prompts: Sequence[Prompt]
    folder: Path
    output_name: str
    seed: int  # of the run
    report: Any  # has sample(path, prompt_index, step)
    as_trained: Callable[[], AbstractContextManager]  # while drawing: the method's dropout off, autocast on

    def draw(self, step: int, epoch: int, by: str) -> None:
        """Every prompt, as the model is after this step. by: "epoch" or "step", which names the files.

        A prompt without a seed gets one by its place in the file: the same at every step, so that pictures can be compared.
        """
        device = next(self.model.parts[self.model.denoiser].parameters()).device
        # The parts are brought to the device once for all prompts.
        with self.as_trained(), at_rest(self.model, device):
            for index, prompt in enumerate(self.prompts):
                self.draw_one(index, prompt, (step, epoch, by))

    def draw_one(self, index: int, prompt: Prompt, place: tuple[int, int, str]) -> None:
        """One prompt. place: step, epoch, and which of them names the file."""
        step, epoch, by = place
        seed = seed_for(self.seed, "sample picture", index) % 2**32
        device = next(self.model.parts[self.model.denoiser].parameters()).device
        picture = draw(self.model, prompt, self.options.sample_sampler, seed, device)
        drawn = Drawn(prompt=prompt, index=index, sampler=self.options.sample_sampler, seed=seed, step=step, epoch=epoch,
                      by_epoch=by == "epoch", output_name=self.output_name)
        self.report.sample(save_sample(picture, self.folder, drawn, datetime.now()), index, step)
