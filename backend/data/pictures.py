"""Picture files: which there are, whether they are whole, how large they are, and their pixels as RGB. Torch-free."""

import os
import struct
import warnings
import zlib
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")  # in any case
FORMATS = {"PNG", "JPEG", "MPO", "WEBP", "BMP", "DIB"}  # as Pillow names what it found in the file
ORIENTATION = 0x0112  # the EXIF tag
TURNED = (5, 6, 7, 8)  # its values for pictures that lie on their side
PNG_START = b"\x89PNG\r\n\x1a\n"
# The texts in a PNG that Pillow may take an orientation from, and the chunks they stand in.
PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
PNG_ORIENTATION_TEXTS = (b"Raw profile type exif", b"XML:com.adobe.xmp")


class BadPicture(Exception):
    """A file that is no usable picture; the text says why, in a few words."""


def is_picture_name(name: str) -> bool:
    """Whether a file's name has the ending of a picture."""
    return name.lower().endswith(ENDINGS) and not name.startswith("._")


def holds_pictures(folder: Path) -> bool:
    """Whether pictures lie directly in a folder."""
    try:
        return any(is_picture_name(entry.name) for entry in os.scandir(folder))
    except OSError:
        return False


def measure(path: str | Path) -> tuple[int, int]:
    """Width and height as seen, the EXIF orientation applied. Raises BadPicture where the file is empty, cut short or no picture.

    Headers are decoded, not pixels. A PNG's checksums are all tried (the whole file is read); a JPEG that does not end in its end mark is
    decoded to know; a WebP must be as long as it says; a BMP is decoded, which costs next to nothing. About 5,000 PNG or WebP files and 15,000
    JPEG files a second, where the disk keeps up. A JPEG or WebP that is whole but damaged inside is found only when it is used.
    """
    try:
        check_not_empty(path)
        with quiet(), Image.open(path) as image:
            if image.format not in FORMATS:
                raise BadPicture(f"it is a {image.format} file under another name")
            width, height = image.size
            turned = CHECKS[image.format](path, image)
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise BadPicture(reason(error)) from None
    return (height, width) if turned else (width, height)


def check_not_empty(path: str | Path) -> None:
    """Raises BadPicture where a file has no bytes, and OSError where there is no file."""
    if os.path.getsize(path) == 0:
        raise BadPicture("the file is empty")


def check_png(path: str | Path, image: Image.Image) -> bool:
    """Tries every checksum up to the end mark; whether the picture lies on its side."""
    # Pillow would decode a whole PNG to find its orientation, so that is asked only where one may be written.
    return lies_on_its_side(image) if png_may_be_turned(Path(path).read_bytes()) else False


def png_may_be_turned(content: bytes) -> bool:
    """Whether a PNG says something of its orientation. Raises BadPicture where it is cut short or damaged (PNG specification, 5.3)."""
    place, may_be_turned, view = len(PNG_START), False, memoryview(content)
    while place + 12 <= len(content):
        length, = struct.unpack_from(">I", content, place)
        kind, end = content[place + 4:place + 8], place + 8 + length
        if end + 4 > len(content):
            break
        if zlib.crc32(view[place + 4:end]) != struct.unpack_from(">I", content, end)[0]:
            raise BadPicture(f"it is damaged near byte {place}")
        if kind == b"IEND":
            return may_be_turned
        start = content[place + 8:place + 64] if kind in PNG_TEXTS else b""
        may_be_turned |= kind == b"eXIf" or start.startswith(PNG_ORIENTATION_TEXTS)
        place = end + 4
    raise BadPicture("it is cut short")


def check_jpeg(path: str | Path, image: Image.Image) -> bool:
    """Looks for the end mark; decodes where there is none in its place. Whether the picture lies on its side."""
    turned = lies_on_its_side(image)
    with open(path, "rb") as file:
        file.seek(-min(64, os.path.getsize(path)), os.SEEK_END)
        tail = file.read().rstrip(b"\0\r\n")
    if not tail.endswith(b"\xff\xd9"):
        image.load()
    return turned


def check_webp(path: str | Path, image: Image.Image) -> bool:
    """Compares the length with the one the file says (RIFF). Whether the picture lies on its side."""
    with open(path, "rb") as file:
        said = struct.unpack("<4sI", file.read(8))[1] + 8
    if os.path.getsize(path) < said:
        raise BadPicture("it is cut short")
    return lies_on_its_side(image)


def check_by_decoding(path: str | Path, image: Image.Image) -> bool:
    """Decodes the picture. Whether it lies on its side."""
    image.load()
    return lies_on_its_side(image)


def lies_on_its_side(image: Image.Image) -> bool:
    """Whether the EXIF orientation exchanges width and height."""
    return image.getexif().get(ORIENTATION) in TURNED


CHECKS = {"PNG": check_png, "JPEG": check_jpeg, "MPO": check_jpeg, "WEBP": check_webp, "BMP": check_by_decoding, "DIB": check_by_decoding}


def open_rgb(path: str | Path) -> Image.Image:
    """The picture upright and as RGB. Raises BadPicture.

    As the community does, transparency is dropped, not blended: a pixel keeps the colour that stands in the file. Of an animation the first
    picture is taken; 16-bit grey becomes 8-bit.
    """
    try:
        check_not_empty(path)
        with Image.open(path) as image:
            image.load()
            return as_rgb(ImageOps.exif_transpose(image))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadPicture(reason(error)) from None


def as_rgb(image: Image.Image) -> Image.Image:
    """The picture as RGB, whatever its mode."""
    if image.mode.startswith("I"):  # 16-bit grey: Pillow itself would cut off everything above 255
        import numpy

        grey = numpy.asarray(image).astype(numpy.int64)
        return Image.fromarray((grey.clip(0, 65535) // 257).astype(numpy.uint8)).convert("RGB")
    if "transparency" in image.info and image.mode in ("P", "L", "RGB", "1"):
        image = image.convert("RGBA")
    return image.convert("RGB")


def quiet() -> warnings.catch_warnings:
    """Pillow's remarks on large pictures and odd EXIF data kept from the terminal."""
    return warnings.catch_warnings(action="ignore")


def reason(error: Exception) -> str:
    """Why a file cannot be read, in a few words."""
    if isinstance(error, UnidentifiedImageError):
        return "it is not a picture"
    if isinstance(error, Image.DecompressionBombError):
        return "it has too many pixels; make it smaller"
    if isinstance(error, FileNotFoundError):
        return "it is no longer there"
    words = str(getattr(error, "strerror", None) or error)
    if "truncated" in words.lower():
        return "it is cut short"
    return "it is cut short or damaged" if "decoder" in words else words
