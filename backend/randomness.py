"""The only source of seeds: a draw depends on where it happens, never on what was drawn before it.

So workers, processes, batch shape and a resume in the middle cannot change a draw.
"""

import hashlib


def seed_for(*place: int | str) -> int:
    """A 63-bit seed for a place such as (seed, "step", 120): the same in every process, worker and resumed run."""
    # The type is written along with the value, so that 1 and "1" are different places.
    text = "\x1f".join(f"{'i' if isinstance(part, int) else 's'}{part}" for part in map(plain, place))
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest(), "big") >> 1


def plain(part) -> int | str:
    """The part as a plain int or str: numpy's whole numbers must name the same place as Python's."""
    if isinstance(part, str):
        return part
    if isinstance(part, bool) or int(part) != part:
        raise TypeError(f"a place is made of whole numbers and words, not {part!r}")
    return int(part)
