"""Options for what is trained from."""

from backend.config.option import Options, option


class ModelOptions(Options):
    """The model to start from."""

    pretrained_model_name_or_path: str = option(
        "", "The model to start from: a .safetensors or .ckpt file, or a folder in Diffusers layout.",
        path="model file", example=("other.safetensors", "result"), may_change=True)
    vae: str | None = option(
        None, "Another VAE to use instead of the model's own: a Stable Diffusion checkpoint, a VAE file, or a Diffusers folder.",
        path="model file", example=("vae.safetensors", "result"), may_change=True, advanced=True)
