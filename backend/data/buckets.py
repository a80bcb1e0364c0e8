"""Which shape a picture is trained in, and how it is resized and cropped to it. Torch-free."""

import math
from dataclasses import dataclass

SMALLEST_SIDE = 64  # pixels: below this the UNet's deepest level has nothing left to look at
SIDE_UNIT = 8  # pixels along a latent: a bucket's sides are multiples of it

Size = tuple[int, int]  # width, height


@dataclass(frozen=True)
class Geometry:
    """How a picture becomes a training picture: resized, then cut at (left, top) to the bucket. Sizes are (width, height)."""

    resized: Size
    crop: Size  # left, top, in pixels of the resized picture
    bucket: Size

    def mirrored_left(self) -> int:
        """The left edge of the crop, counted in the mirrored picture."""
        return self.resized[0] - self.bucket[0] - self.crop[0]


@dataclass(frozen=True)
class BucketRule:
    """What decides a picture's bucket: the options of one dataset."""

    resolution: Size
    enable_bucket: bool = False
    min_bucket_reso: int = 256
    max_bucket_reso: int = 1024
    bucket_reso_steps: int = 64
    bucket_no_upscale: bool = False

    def geometry(self, width: int, height: int) -> Geometry:
        """Bucket, resizing and crop of a picture of this size."""
        if not self.enable_bucket:
            return cover((width, height), self.resolution)
        if self.bucket_no_upscale:
            return shrink_only((width, height), self.resolution[0] * self.resolution[1], self.bucket_reso_steps)
        return cover((width, height), nearest_bucket((width, height), self.candidates()))

    def candidates(self) -> list[Size]:
        """All buckets that the options allow, sorted (not asked for without enable_bucket or with bucket_no_upscale)."""
        return bucket_sizes(self.resolution, self.min_bucket_reso, self.max_bucket_reso, self.bucket_reso_steps)

    def faults(self) -> list[str]:
        """Why no usable bucket can come of these options: sentences that each begin with an option's name."""
        width, height = self.resolution
        if not self.enable_bucket:
            odd = width % SIDE_UNIT or height % SIDE_UNIT
            return [f"resolution is {width}x{height}, but its sides must be multiples of {SIDE_UNIT} unless enable_bucket is on."] if odd else []
        step = self.bucket_reso_steps
        if step % SIDE_UNIT:
            return [f"bucket_reso_steps is {step}, but must be a multiple of {SIDE_UNIT}."]
        if smallest_side(step) ** 2 > width * height:
            return [f"bucket_reso_steps is {step}, but no bucket with such sides fits in the area of resolution {width}x{height}."]
        return [] if self.bucket_no_upscale else self._faults_of_limits()

    def _faults_of_limits(self) -> list[str]:
        width, height = self.resolution
        faults = []
        if min(width, height) < self.min_bucket_reso:
            faults.append(f"min_bucket_reso is {self.min_bucket_reso}, but must not be more than the shorter side of resolution, {min(width, height)}.")
        if max(width, height) > self.max_bucket_reso:
            faults.append(f"max_bucket_reso is {self.max_bucket_reso}, but must not be less than the longer side of resolution, {max(width, height)}.")
        return faults


def bucket_sizes(resolution: Size, shortest: int, longest: int, step: int) -> list[Size]:
    """The buckets of about the area of `resolution`, with sides from shortest to longest in multiples of step; sorted (width, height).

    The community's list: the square, and for each width the greatest height that keeps the area, both ways round. `shortest` is rounded down
    and `longest` up to a multiple; no side is less than 64 pixels.
    """
    area = resolution[0] * resolution[1]
    shortest = max(floor_to(shortest, step), smallest_side(step))
    longest = -(-longest // step) * step
    side = floor_to(math.isqrt(area), step)
    sizes = {(side, side)} if side >= smallest_side(step) else set()
    for width in range(shortest, longest + 1, step):
        height = min(longest, floor_to(area // width, step))
        if height >= shortest:
            sizes |= {(width, height), (height, width)}
    return sorted(sizes)


def nearest_bucket(size: Size, candidates: list[Size]) -> Size:
    """The bucket that cuts least away: the picture's own size if there is such a bucket, else the one whose ratio is nearest on a log scale.

    So wide and tall pictures are treated alike; where two are equally near, the larger area wins.
    """
    if size in candidates:
        return size

    def badness(bucket: Size) -> tuple:
        return cut_away(size, bucket), -bucket[0] * bucket[1], bucket

    return min(candidates, key=badness)


def cut_away(size: Size, bucket: Size) -> float:
    """How much of the covering picture lies outside the bucket, as |log| of the quotient of the two ratios: 0 where the shapes agree."""
    # Rounded, so that shapes that are equally near by arithmetic are so in floating point too.
    return round(abs(math.log(size[0] * bucket[1] / (size[1] * bucket[0]))), 12)


def shrink_only(size: Size, area: int, step: int) -> Geometry:
    """The geometry with bucket_no_upscale: the bucket follows from the picture's own size.

    A picture within `area` is not resized, and its sides are cut to multiples of step. A larger one is thought of as shrunk to `area`; of the
    sides next below and next above in multiples of step, those are taken whose shape is nearest to the picture's, with no more than `area`
    and without enlarging; it is shrunk to cover them. So at most (k + 1) / k of the picture is cut away where the short side is k steps.
    Where a side would be less than one step (and 64 pixels), the short side is made exactly that, even by enlarging: the one exception.
    """
    least = smallest_side(step)
    shrink = min(1.0, math.sqrt(area / (size[0] * size[1])))
    if min(size) * shrink < least:
        return short_side_to(size, least, area, step)
    if shrink == 1.0:
        bucket = (floor_to(size[0], step), floor_to(size[1], step))
        return Geometry(size, centred(size, bucket), bucket)
    widths, heights = ({floor_to(int(side * shrink), step), floor_to(int(side * shrink), step) + step} for side in size)
    fitting = [(w, h) for w in widths for h in heights if w * h <= area and w <= size[0] and h <= size[1]]
    return cover(size, nearest_bucket(size, fitting))


def short_side_to(size: Size, least: int, area: int, step: int) -> Geometry:
    """A very narrow or very small picture: its short side becomes `least`, and its long side is cut to what `area` leaves."""
    longest = floor_to(area // least, step)
    long_side = max(least, min(longest, floor_to(max(size) * least // min(size), step)))
    return cover(size, (least, long_side) if size[0] <= size[1] else (long_side, least))


def cover(size: Size, bucket: Size) -> Geometry:
    """Resize so that the bucket is just covered (rounded half up), and cut its middle out (rounded down)."""
    width, height = size
    if width * bucket[1] > height * bucket[0]:  # wider than the bucket
        resized = (max(bucket[0], round_half_up(width * bucket[1], height)), bucket[1])
    else:
        resized = (bucket[0], max(bucket[1], round_half_up(height * bucket[0], width)))
    return Geometry(resized, centred(resized, bucket), bucket)


def centred(resized: Size, bucket: Size) -> Size:
    """Left and top of the middle cut."""
    return (resized[0] - bucket[0]) // 2, (resized[1] - bucket[1]) // 2


def smallest_side(step: int) -> int:
    """The least side of a bucket: a multiple of step, and no less than 64 pixels."""
    return -(-SMALLEST_SIDE // step) * step


def floor_to(value: int, step: int) -> int:
    """The greatest multiple of step that is not more than value."""
    return value // step * step


def round_half_up(numerator: int, denominator: int) -> int:
    """numerator / denominator, rounded to the nearest whole number, halves up."""
    return (2 * numerator + denominator) // (2 * denominator)
