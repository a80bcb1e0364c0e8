"""From a picture's file to the tensor that is trained on."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from backend.data.buckets import Geometry
from backend.data.pictures import BadPicture, open_rgb
from backend.data.records import Records
from backend.faults import Faults


def load_pixels(records: Records, record: int, flipped: bool) -> Tensor:
    """A record's picture, resized and cropped to its bucket, mirrored if so drawn. float32 [3, H, W] in -1..1.

    Raises Faults where the picture vanished, broke or changed its size since the scan.
    """
    path = records.path[record]
    try:
        picture = open_rgb(path)
    except BadPicture as bad:
        raise Faults(f"{path} cannot be read any more: {bad}. It seemed whole when training began; put it back, or start anew.") from None
    expected = (int(records.width[record]), int(records.height[record]))
    if picture.size != expected:
        raise Faults(f"{path} is now {picture.size[0]}x{picture.size[1]} pixels, but was {expected[0]}x{expected[1]} when training began. Start anew.")
    return to_tensor(fit(picture, records.geometry(record)), flipped)


def fit(picture: Image.Image, geometry: Geometry) -> Image.Image:
    """The picture resized (Lanczos, which also smooths when shrinking) and cropped to its bucket."""
    if picture.size != geometry.resized:
        picture = picture.resize(geometry.resized, Image.Resampling.LANCZOS)
    left, top = geometry.crop
    return picture.crop((left, top, left + geometry.bucket[0], top + geometry.bucket[1]))


def to_tensor(picture: Image.Image, flipped: bool = False) -> Tensor:
    """An RGB picture as float32 [3, H, W]: 0 becomes -1, and 255 becomes 1."""
    pixels = np.asarray(picture, dtype=np.float32)
    if flipped:
        pixels = pixels[:, ::-1]
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))) / 127.5 - 1.0


def sizes_of(records: Records, record: int, flipped: bool) -> list[float]:
    """What SDXL is told of a picture: original height and width, top and left of the crop in the resized picture, target height and width.

    Of a mirrored picture the crop's left edge is counted in the mirrored picture (Podell et al. 2023, 2.2).
    """
    geometry = records.geometry(record)
    left = geometry.mirrored_left() if flipped else geometry.crop[0]
    original = [float(records.height[record]), float(records.width[record])]
    return [*original, float(geometry.crop[1]), float(left), float(geometry.bucket[1]), float(geometry.bucket[0])]
