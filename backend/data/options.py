"""Options of the pictures, their captions, and how they are brought to the trainer."""

from backend.config.option import Options, option

ALL = ("general", "datasets", "subsets")
DATASET = ("general", "datasets")


def read_resolution(value):
    """512, [512, 768], "512" or "512,768" as [width, height]."""
    words = 'must be a size such as 512, or a width and a height such as "512,768"'
    if isinstance(value, str):
        value = [part.strip() for part in value.replace("x", ",").split(",")]
    if not isinstance(value, (list, tuple)):
        value = [value]
    if len(value) not in (1, 2) or any(isinstance(part, bool) for part in value):
        raise ValueError(words)
    try:
        sides = [int(part) for part in value]
        if any(float(part) != side for part, side in zip(value, sides)):
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(words) from None
    if min(sides) < 64:
        raise ValueError("must be 64 pixels or more")
    return sides * 2 if len(sides) == 1 else sides


class DataOptions(Options):
    """Pictures and captions."""

    train_data_dir: str | None = option(
        None, "Folder that holds the picture folders, each named <repeats>_<identifier> <class>, such as 10_sks cat.",
        path="image folder", example=("other", "result"), may_change=True)
    reg_data_dir: str | None = option(
        None, "Folder that holds the folders of regularisation pictures, each named <repeats>_<class>, such as 1_cat.",
        path="image folder", example=("reg", "result"), may_change=True)
    dataset_config: str | None = option(
        None, "A TOML or JSON file that describes data sets. It takes the place of the two folders above.",
        path="config file", example=("dataset.toml", "result"), may_change=True)
    resolution: list[int] = option(
        [512, 512], 'Training size in pixels: 512, or a width and a height "512,768". With buckets only its area counts.',
        read=read_resolution, levels=DATASET, example=([128, 64], "result"), unit="pixels")
    train_batch_size: int = option(
        1, "Pictures that are seen at once in a step.", minimum=1, levels=DATASET, example=(2, "result"), aliases=("batch_size",))
    enable_bucket: bool = option(
        False, "Sort pictures of different shapes into buckets instead of cutting all to one shape.", levels=DATASET, example=(True, "result"))
    min_bucket_reso: int = option(
        256, "Shortest side of a bucket.", minimum=8, levels=DATASET, example=(64, "plan", {"enable_bucket": True}), unit="pixels", shown_when="enable_bucket", advanced=True)
    max_bucket_reso: int = option(
        1024, "Longest side of a bucket.", minimum=8, levels=DATASET, example=(512, "plan", {"enable_bucket": True}), unit="pixels", shown_when="enable_bucket", advanced=True)
    bucket_reso_steps: int = option(
        64, "The sides of buckets are multiples of this.", minimum=8, levels=DATASET, example=(32, "plan", {"enable_bucket": True}), unit="pixels",
        shown_when="enable_bucket", advanced=True)
    bucket_no_upscale: bool = option(
        False, "Never enlarge a picture: its bucket follows from its own size.", levels=DATASET, example=(True, "plan", {"enable_bucket": True}), shown_when="enable_bucket")
    flip_aug: bool = option(
        False, "Mirror half of the pictures, drawn anew each time. Not for faces or words.", levels=ALL, example=(True, "result"))
    shuffle_caption: bool = option(
        False, "Put the parts of a caption, split at caption_separator, in another order each time.", levels=ALL, example=(True, "result"))
    caption_separator: str = option(
        ",", "What separates the parts of a caption.", levels=ALL, example=(";", "result", {"shuffle_caption": True}), advanced=True)
    keep_tokens: int = option(
        0, "Leave this many parts at the front of a caption in place.", minimum=0, levels=ALL, example=(1, "result", {"shuffle_caption": True}), shown_when="shuffle_caption")
    caption_dropout_rate: float = option(
        0.0, "Share of uses in which the caption is left out, so that the model also learns without words.",
        minimum=0, maximum=1, levels=ALL, example=(0.5, "result"), advanced=True)
    caption_extension: str = option(
        ".caption", "Ending of caption files, such as .txt.", levels=ALL, example=(".txt", "result"), aliases=("caption_extention",))
    prior_loss_weight: float = option(
        1.0, "How much a regularisation picture counts beside a training picture.", minimum=0, example=(0.25, "result", {"reg_data_dir": "reg"}), shown_when="reg_data_dir")
    strict_images: bool = option(
        False, "Stop when a file in a picture folder cannot be read, instead of leaving it out with a warning.", example=(True, "plan"), advanced=True)
    cache_latents: bool = option(
        False, "Encode every picture once before training and keep the result in memory: faster, and the VAE leaves the GPU.", example=(True, "speed"))
    vae_batch_size: int = option(
        1, "Pictures encoded at once when latents are cached.", minimum=1, example=(2, "speed", {"cache_latents": True}), shown_when="cache_latents", advanced=True, may_change=True)
    max_data_loader_n_workers: int = option(
        8, "Processes that prepare pictures; never more than processor threads less one.", minimum=0, example=(2, "speed"), advanced=True, may_change=True)
    persistent_data_loader_workers: bool = option(
        False, "Keep these processes from one epoch to the next.", example=(True, "speed", {"max_data_loader_n_workers": 2}), advanced=True, may_change=True)


class SubsetOptions(Options):
    """One folder of pictures, as a dataset file describes it."""

    image_dir: str = option(
        "", "The folder that holds the pictures themselves.", path="image folder", levels=("subsets",), flag=False, example=("other", "result"))
    is_reg: bool = option(
        False, "These are regularisation pictures.", levels=("subsets",), flag=False, example=(True, "result"))
    class_tokens: str | None = option(
        None, 'Words for pictures without a caption file, such as "sks cat".', levels=ALL, flag=False, example=("sks cat", "result"))
    num_repeats: int = option(
        1, "How often each picture is used in an epoch. Less than 1 leaves the folder out.", levels=ALL, flag=False, example=(2, "plan"))
