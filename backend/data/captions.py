"""The words that go with a picture at one of its uses. Torch-free."""

import random
from typing import Protocol

from backend.randomness import seed_for


class CaptionRule(Protocol):
    """What of a subset decides how its captions are drawn."""

    caption_dropout_rate: float
    shuffle_caption: bool
    caption_separator: str
    keep_tokens: int


def draw_caption(raw: str, rule: CaptionRule, seed: int) -> str:
    """The caption of one use of a picture. seed: the sample's own.

    First it is left out whole with probability caption_dropout_rate; then, with shuffle_caption, its parts after the first keep_tokens change
    places and are joined by the caption's own separator and a space. Without either it is returned as it was written.
    """
    draw = random.Random(seed_for(seed, "caption"))
    if draw.random() < rule.caption_dropout_rate:
        return ""
    if not rule.shuffle_caption:
        return raw
    return shuffled(raw, rule.caption_separator, rule.keep_tokens, draw)


def shuffled(caption: str, separator: str, keep: int, draw: random.Random) -> str:
    """The parts of a caption in another order, the first `keep` of them in place. Empty parts vanish."""
    parts = [part.strip() for part in caption.split(separator)]
    parts = [part for part in parts if part]
    moving = parts[keep:]
    draw.shuffle(moving)
    # The separator may be made of spaces alone; then one space would not be told from it.
    joint = separator.strip() + " " if separator.strip() else separator
    return joint.join(parts[:keep] + moving)
