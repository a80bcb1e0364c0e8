"""The demo's pictures: one emblem on many grounds, drawn here, so that they belong to the project and need no download."""

import math
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from backend.files import folder_written_whole, write_text

IDENTIFIER, CLASS = "sks", "emblem"
REPEATS = 10
SMOOTH = 4  # drawn so many times larger and then reduced, for smooth edges
NAVY, ORANGE = (24, 44, 104), (255, 146, 36)
SQUARE, WIDE, TALL = (160, 160), (192, 128), (128, 192)


@dataclass(frozen=True)
class Scene:
    """A picture of the emblem. at: its middle, as shares of the sides; radius: share of the shorter side."""

    size: tuple[int, int]
    ground: str
    colours: tuple[tuple[int, int, int], tuple[int, int, int]]
    at: tuple[float, float]
    radius: float
    turn: float  # degrees
    words: str


SCENES = [
    Scene(SQUARE, "plain", ((70, 120, 190), (70, 120, 190)), (0.5, 0.5), 0.36, 0, "on a plain blue background"),
    Scene(SQUARE, "plain", ((235, 235, 230), (235, 235, 230)), (0.5, 0.5), 0.30, 10, "on a white background"),
    Scene(SQUARE, "checks", ((40, 40, 48), (90, 90, 104)), (0.45, 0.55), 0.33, -12, "on a grey chequered floor"),
    Scene(SQUARE, "fade", ((20, 24, 60), (120, 60, 140)), (0.5, 0.42), 0.28, 0, "in front of a purple evening sky"),
    Scene(WIDE, "stripes", ((30, 110, 70), (46, 150, 96)), (0.35, 0.5), 0.38, 8, "on the left of a green striped wall"),
    Scene(WIDE, "fade", ((130, 190, 240), (240, 240, 255)), (0.65, 0.5), 0.34, -6, "on the right, in front of a pale sky"),
    Scene(WIDE, "dots", ((240, 220, 190), (200, 150, 110)), (0.5, 0.5), 0.40, 0, "on a beige dotted cloth"),
    Scene(WIDE, "hills", ((120, 180, 230), (60, 130, 60)), (0.5, 0.4), 0.26, 0, "above green hills"),
    Scene(TALL, "stripes", ((90, 60, 40), (120, 84, 56)), (0.5, 0.35), 0.36, 0, "at the top of a brown wooden door"),
    Scene(TALL, "plain", ((16, 16, 20), (16, 16, 20)), (0.5, 0.5), 0.40, 15, "on a black background"),
    Scene(TALL, "hills", ((250, 190, 140), (150, 80, 90)), (0.5, 0.6), 0.30, -8, "low over red hills at sunset"),
    Scene(TALL, "dots", ((30, 90, 110), (60, 140, 150)), (0.5, 0.65), 0.34, 0, "at the bottom of a teal dotted banner"),
]
SAMPLE_PROMPTS = f"""# What the demo draws before and after training. --d is the seed, so both can be compared.
{IDENTIFIER} {CLASS}, on a plain blue background --n blurry --w 128 --h 128 --d 1 --s 12 --l 5
{IDENTIFIER} {CLASS}, above green hills --w 192 --h 128 --d 2 --s 12 --l 5
"""


def make_demo_pictures(folder: Path, caption_extension: str = ".caption") -> Path:
    """Draw the picture set into `folder`/10_sks emblem, with a caption file beside each picture; returns that folder.

    The same bytes each time. An older set in the same place is replaced.
    """
    path = Path(folder) / f"{REPEATS}_{IDENTIFIER} {CLASS}"
    with folder_written_whole(path) as draft:
        for number, scene in enumerate(SCENES, start=1):
            file = draft / f"emblem_{number:02d}.png"
            picture_of(scene).save(file)
            caption = f"{IDENTIFIER} {CLASS}, {scene.words}\n"
            file.with_suffix(caption_extension).write_text(caption, encoding="utf-8", newline="\n")
    return path


def make_demo_prompts(path: Path) -> Path:
    """Write the prompt file for sample pictures of the emblem; returns its path."""
    write_text(path, SAMPLE_PROMPTS)
    return Path(path)


def picture_of(scene: Scene) -> Image.Image:
    """Draw one scene as an RGB picture of its size."""
    width, height = (side * SMOOTH for side in scene.size)
    picture = Image.new("RGB", (width, height), scene.colours[0])
    pen = ImageDraw.Draw(picture)
    GROUNDS[scene.ground](pen, (width, height), scene.colours)
    draw_emblem(pen, (scene.at[0] * width, scene.at[1] * height), scene.radius * min(width, height), scene.turn)
    return picture.resize(scene.size, Image.Resampling.LANCZOS)


def draw_emblem(pen: ImageDraw.ImageDraw, at: tuple[float, float], radius: float, turn: float) -> None:
    """A navy disc with an orange rim, and an orange five-pointed star in it."""
    pen.ellipse(around(at, radius), fill=ORANGE)
    pen.ellipse(around(at, radius * 0.88), fill=NAVY)
    pen.polygon(star(at, radius * 0.74, turn), fill=ORANGE)


def star(at: tuple[float, float], radius: float, turn: float) -> list[tuple[float, float]]:
    """The ten corners of a star that points up, turned clockwise by `turn` degrees."""
    inner = radius * math.sin(math.radians(18)) / math.sin(math.radians(54))  # where the sides of a pentagram cross
    corners = []
    for corner in range(10):
        angle = math.radians(36 * corner - 90 + turn)
        reach = inner if corner % 2 else radius
        corners.append((at[0] + reach * math.cos(angle), at[1] + reach * math.sin(angle)))
    return corners


def around(at: tuple[float, float], radius: float) -> tuple[float, float, float, float]:
    """The square box around a circle."""
    return at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius


def draw_plain(pen: ImageDraw.ImageDraw, size: tuple[int, int], colours: tuple) -> None:
    """One colour: the picture's first, which is there already."""


def draw_checks(pen: ImageDraw.ImageDraw, size: tuple[int, int], colours: tuple) -> None:
    """A chequered floor."""
    side = 20 * SMOOTH
    for y in range(0, size[1], side):
        for x in range(0, size[0], side):
            pen.rectangle((x, y, x + side, y + side), fill=colours[(x + y) // side % 2])


def draw_stripes(pen: ImageDraw.ImageDraw, size: tuple[int, int], colours: tuple) -> None:
    """Upright stripes."""
    side = 16 * SMOOTH
    for x in range(0, size[0], side):
        pen.rectangle((x, 0, x + side, size[1]), fill=colours[x // side % 2])


def draw_dots(pen: ImageDraw.ImageDraw, size: tuple[int, int], colours: tuple) -> None:
    """Dots in rows."""
    side = 16 * SMOOTH
    for y in range(side // 2, size[1], side):
        for x in range(side // 2, size[0], side):
            pen.ellipse(around((x, y), side * 0.22), fill=colours[1])


def draw_fade(pen: ImageDraw.ImageDraw, size: tuple[int, int], colours: tuple) -> None:
    """A sky that fades from the first colour at the top to the second."""
    for y in range(size[1]):
        share = y / size[1]
        pen.line((0, y, size[0], y), fill=tuple(round(top + (low - top) * share) for top, low in zip(*colours)))


def draw_hills(pen: ImageDraw.ImageDraw, size: tuple[int, int], colours: tuple) -> None:
    """Two round hills of the second colour below a sky of the first."""
    width, height = size
    darker = tuple(channel * 3 // 4 for channel in colours[1])
    pen.ellipse((-width * 0.3, height * 0.7, width * 0.8, height * 1.5), fill=darker)
    pen.ellipse((width * 0.3, height * 0.78, width * 1.4, height * 1.6), fill=colours[1])


GROUNDS = {"plain": draw_plain, "checks": draw_checks, "stripes": draw_stripes, "dots": draw_dots, "fade": draw_fade, "hills": draw_hills}
