"""Options of network training: a small network beside the model's layers is trained, the model itself is not."""

from typing import Literal

from backend.config.option import Options, option


class NetworkOptions(Options):
    """The network that is trained (LoRA)."""

    network_module: Literal["networks.lora"] = option(
        "networks.lora", "The kind of network. networks.lora is LoRA, and with conv_dim LoCon.", example=("networks.lora", "words"))
    network_dim: int = option(
        4, "Rank: how much the network can hold. 4 to 32 is usual.", minimum=1, example=(2, "result"))
    network_alpha: float = option(
        1.0, "The network's effect is scaled by alpha / rank. 0 means the same as the rank.", minimum=0, example=(8.0, "result"))
    network_dropout: float | None = option(
        None, "Share of the network's inner values that are left out at each step.", minimum=0, maximum=0.99, example=(0.5, "result"), advanced=True)
    network_args: list[str] = option(
        [], "Further settings of the network, as key=value: conv_dim, conv_alpha, rank_dropout, module_dropout.",
        example=(["conv_dim=2"], "result"), advanced=True)
    network_weights: str | None = option(
        None, "A network file to go on from, instead of a fresh network.", path="network file", example=("start.safetensors", "result"), may_change=True)
    network_train_unet_only: bool = option(
        False, "Train nothing in the text encoder.", example=(True, "result"))
    network_train_text_encoder_only: bool = option(
        False, "Train nothing in the UNet.", example=(True, "result"), advanced=True)
    unet_lr: float | None = option(
        None, "Learning rate in the UNet. Empty: learning_rate.", minimum=0, example=(1e-3, "result"))
    text_encoder_lr: list[float] = option(
        [], "Learning rate in the text encoder. Empty: learning_rate.", minimum=0, example=([1e-3], "result"))
