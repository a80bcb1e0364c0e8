"""Training a network: LoRA beside the model's layers, while the model itself stays as it is."""

import json
import logging
import math
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from torch import Tensor, nn

from backend.faults import Faults
from backend.methods.method import ParameterGroup, TrainingMethod
from backend.methods.network.arguments import read_network_args
from backend.methods.network.file import name_faults, rank_faults, read_weights
from backend.methods.network.lora import Dropouts, LoRA
from backend.methods.network.options import NetworkOptions
from backend.models.model import DiffusionModel, NetworkTarget
from backend.randomness import seed_for

log = logging.getLogger("darkroom")

# Half precision keeps three digits of an alpha, so a file's alpha is the same when it is this near.
SAME_ALPHA = 0.01


class NetworkMethod(TrainingMethod):
    """Trains a LoRA for each chosen layer of the UNet and of the text encoders.

    A part whose learning rate is 0 keeps its LoRA as it is, in use and in the file; a part that network_train_..._only leaves out
    has none. seed: the first weights are drawn from it, by the name of the layer.
    """

    options: NetworkOptions

    def __init__(self, options: NetworkOptions, learning_rate: float, seed: int):
        super().__init__(options, learning_rate)
        self.arguments = read_network_args(options)
        self.seed = seed
        self.network = nn.ModuleDict()
        self.hooks = []

    def prepare(self, model: DiffusionModel) -> list[ParameterGroup]:
        """Put a LoRA, on its layer's device, beside each chosen layer; the groups come text encoders first."""
        rates = self.learning_rates(model)
        targets = [target for target in model.network_targets() if target.part in rates and self.rank_and_alpha(target)]
        model.freeze()
        self.remove()
        self.network = nn.ModuleDict({target.name: self.lora(target) for target in targets})
        self.hooks = [target.module.register_forward_hook(self.network[target.name].change) for target in targets]
        if self.options.network_weights:
            path = Path(self.options.network_weights)
            self.put(read_weights(path), f"network_weights: {path}")
        groups = [self.group(model, targets, part, rate) for part, rate in rates.items()]
        groups = [group for group in groups if group.parameters]
        if not groups:
            raise Faults("Nothing would be trained: the learning rate is 0 wherever the network has layers. Set learning_rate, unet_lr or text_encoder_lr.")
        return groups

    def learning_rates(self, model: DiffusionModel) -> dict[str, float]:
        """The learning rate of each part that gets a network, text encoders first."""
        rates = {}
        given = self.options.text_encoder_lr
        if len(given) > max(1, len(model.text_encoders)):
            # The usual GUI writes two values whatever the model.
            log.warning("text_encoder_lr has %d values, but the model has %d text encoder(s): the rest is not used.", len(given), len(model.text_encoders))
        if not self.options.network_train_unet_only:
            # A single value serves every text encoder, as do the last of several.
            rates.update({part: given[min(at, len(given) - 1)] if given else self.learning_rate for at, part in enumerate(model.text_encoders)})
        if not self.options.network_train_text_encoder_only:
            rates[model.denoiser] = self.learning_rate if self.options.unet_lr is None else self.options.unet_lr
        return rates

    def rank_and_alpha(self, target: NetworkTarget) -> tuple[int, float] | None:
        """The rank and alpha for a layer, or None where it is left alone."""
        kernel = getattr(target.module, "kernel_size", (1, 1))
        if tuple(kernel) != (1, 1):
            conv_dim = self.arguments.conv_dim
            return (conv_dim, self.arguments.conv_alpha or conv_dim) if conv_dim else None
        if target.in_attention or self.arguments.conv_dim:
            return self.options.network_dim, self.options.network_alpha or self.options.network_dim
        return None

    def lora(self, target: NetworkTarget) -> LoRA:
        """A fresh LoRA for a layer."""
        rank, alpha = self.rank_and_alpha(target)
        dropouts = Dropouts(self.options.network_dropout or 0.0, self.arguments.rank_dropout, self.arguments.module_dropout)
        return LoRA(target.module, rank, alpha, dropouts, seed_for(self.seed, "init", target.name))

    def group(self, model: DiffusionModel, targets: list[NetworkTarget], part: str, rate: float) -> ParameterGroup:
        """A part's parameters, thawed; none, and frozen, where its learning rate is 0."""
        parameters = [parameter for target in targets if target.part == part for parameter in self.network[target.name].parameters()]
        for parameter in parameters:
            parameter.requires_grad_(rate > 0)
        return ParameterGroup(part, part, parameters if rate > 0 else [], rate)

    def remove(self) -> None:
        """Take the network off the model again."""
        for hook in self.hooks:
            hook.remove()
        self.hooks = []

    def weights(self, model: DiffusionModel) -> dict[str, Tensor]:
        """The factors and the alpha of every layer, by their names in a network file."""
        return dict(self.network.state_dict())

    def load(self, model: DiffusionModel, weights: dict[str, Tensor]) -> None:
        """Put back what `weights` gave."""
        self.put(weights, "The state's network")

    def put(self, weights: dict[str, Tensor], source: str) -> None:
        """Fill the network with weights that must fit it exactly; source begins the sentences of the faults."""
        own = self.network.state_dict()
        shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        faults = rank_faults(shapes, self.options, self.arguments, source)
        faults = faults or name_faults({name: tuple(tensor.shape) for name, tensor in own.items()}, shapes, source)
        faults = faults or self.alpha_faults(weights, source)
        if faults:
            raise Faults(*faults)
        factors = {name: tensor for name, tensor in weights.items() if not name.endswith(".alpha")}
        self.network.load_state_dict(factors, strict=False)

    def alpha_faults(self, weights: dict[str, Tensor], source: str) -> list[str]:
        """Where a file's alphas are others than the network's. A file without alphas means alpha = rank."""
        for name, lora in self.network.items():
            found = float(weights.get(f"{name}.alpha", lora.rank))
            if not math.isclose(found, float(lora.alpha), rel_tol=SAME_ALPHA):
                wide = max(getattr(lora.lora_down, "kernel_size", (1,))) > 1
                option = "conv_alpha" if wide else "network_alpha"
                return [f"{source} was trained with {option} {found:g}, but it is {float(lora.alpha):g} here ({name}). Set {option} to {found:g}."]
        return []

    def trains_text(self) -> bool:
        """Whether any text encoder has a network that moves."""
        rates = self.options.text_encoder_lr or [self.learning_rate]
        return not self.options.network_train_unet_only and any(rates)

    def train_mode(self, training: bool) -> None:
        """Switch the network's dropouts on or off."""
        self.network.train(training)

    @contextmanager
    def disabled(self, model: DiffusionModel) -> Iterator[None]:
        """A context in which the network changes nothing."""
        before = {name: lora.enabled for name, lora in self.network.items()}
        try:
            for lora in self.network.values():
                lora.enabled = False
            yield
        finally:
            for name, lora in self.network.items():
                lora.enabled = before[name]

    def metadata(self) -> dict[str, str]:
        """The network's kind, size and settings."""
        options = self.options
        facts = {
            "ss_network_module": options.network_module,
            "ss_network_dim": str(options.network_dim),
            "ss_network_alpha": str(options.network_alpha or options.network_dim),
            "ss_network_dropout": str(options.network_dropout),
        }
        if options.network_args:
            pairs = (written.partition("=") for written in options.network_args)
            facts["ss_network_args"] = json.dumps({key.strip(): value.strip() for key, _, value in pairs})
        return facts
