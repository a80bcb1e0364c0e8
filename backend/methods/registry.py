"""Which method a command trains with."""

from typing import Any

from backend.methods.method import TrainingMethod


def make_method(config: Any, seed: int) -> TrainingMethod:
    """The training method of a config's command. seed: what the method draws at first is drawn from it. Raises Faults."""
    from backend.config.commands import COMMANDS

    return METHODS[COMMANDS[config.command].method](config, seed)


def network_method(config: Any, seed: int) -> TrainingMethod:
    """A network beside the model."""
    from backend.methods.network.method import NetworkMethod

    return NetworkMethod(config.network, config.optimizer.learning_rate, seed)


METHODS = {"network": network_method}
