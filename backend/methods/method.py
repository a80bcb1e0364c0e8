"""What is trained, and what the user takes home."""

from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Iterator

from torch import Tensor, nn

from backend.models.model import DiffusionModel


@dataclass
class ParameterGroup:
    """Parameters that share a learning rate."""

    name: str  # as shown in the learning-rate curves: unet, text_encoder
    part: str  # the part of the model it belongs to
    parameters: list[nn.Parameter]
    learning_rate: float


class TrainingMethod(ABC):
    """A way to train a model. It never asks for a family's name."""

    def __init__(self, options: Any, learning_rate: float):
        self.options = options
        self.learning_rate = learning_rate

    @abstractmethod
    def prepare(self, model: DiffusionModel) -> list[ParameterGroup]:
        """Choose or make what is trained; all else is frozen. Raises Faults where nothing would be trained."""

    @abstractmethod
    def weights(self, model: DiffusionModel) -> dict[str, Tensor]:
        """What the user takes home, by its name on disk, as trained (float32, on the device; not copies)."""

    @abstractmethod
    def load(self, model: DiffusionModel, weights: dict[str, Tensor]) -> None:
        """Put back what `weights` gave. Raises Faults where names or shapes differ."""

    @abstractmethod
    def trains_text(self) -> bool:
        """Whether text outputs change while training, so that they cannot be cached."""

    @abstractmethod
    def metadata(self) -> dict[str, str]:
        """The method's own ss_ facts for the file's metadata."""

    def train_mode(self, training: bool) -> None:
        """Switch what only belongs to training (dropout) on or off."""

    def after_step(self, model: DiffusionModel) -> None:
        """Keep what must stay as it was, after the optimizer moved."""

    @contextmanager
    def disabled(self, model: DiffusionModel) -> Iterator[None]:
        """A context in which the base model predicts, as if nothing had been trained."""
        raise TypeError(f"{type(self).__name__} cannot be switched off")
        yield
