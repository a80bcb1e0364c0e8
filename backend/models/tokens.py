"""Captions to token ids, by CLIP's byte-pair vocabulary. Needs neither torch nor files from elsewhere."""

import gzip
from functools import cache
from pathlib import Path
from typing import Sequence

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

MERGES = Path(__file__).parent / "data" / "clip_merges.txt.gz"
START, END = "<|startoftext|>", "<|endoftext|>"
START_ID, END_ID = 49406, 49407
CLIP_LENGTH = 77  # with start and end
WORD_END = "</w>"
# What a text is first split into: marks, English endings, runs of letters, single digits, runs of other signs.
WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


def tokenize_clip(captions: Sequence[str], pad_id: int = END_ID) -> np.ndarray:
    """Token ids, int64 [B, 77]: start, at most 75 tokens, end, and padding. pad_id: END_ID for SD 1.x and SDXL's first encoder, 0 for SD 2.x and SDXL's second."""
    ids = np.full((len(captions), CLIP_LENGTH), pad_id, dtype=np.int64)
    for row, caption in zip(ids, captions):
        inner = encode(caption)[:CLIP_LENGTH - 2]
        row[0] = START_ID
        row[1:1 + len(inner)] = inner
        row[1 + len(inner)] = END_ID
    return ids


def count_tokens(caption: str) -> int:
    """How many tokens a caption has, uncut, without start and end."""
    return len(encode(caption))


def encode(caption: str) -> list[int]:
    """Token ids of a caption, uncut, without start and end."""
    # One by one: encode_batch starts threads, which do not survive the fork of a loader process.
    return clip_tokenizer().encode(caption, add_special_tokens=False).ids


@cache
def clip_tokenizer() -> Tokenizer:
    """CLIP's tokenizer (Radford et al. 2021), made once for each process."""
    merges = read_merges()
    tokenizer = Tokenizer(models.BPE(vocab=clip_vocabulary(merges), merges=merges, end_of_word_suffix=WORD_END, unk_token=END))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.add_special_tokens([START, END])
    return tokenizer


def clip_vocabulary(merges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Ids by token, in CLIP's order: bytes, bytes that end a word, merges, marks."""
    signs = byte_signs()
    tokens = [*signs, *(sign + WORD_END for sign in signs), *(left + right for left, right in merges), START, END]
    return {token: number for number, token in enumerate(tokens)}


def byte_signs() -> list[str]:
    """A visible sign for each byte, in CLIP's order: printable bytes stand for themselves and come first."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in printable] + [chr(256 + number) for number in range(256 - len(printable))]


def read_merges() -> list[tuple[str, str]]:
    """The pairs that are joined, the most frequent first."""
    lines = gzip.decompress(MERGES.read_bytes()).decode("utf-8").splitlines()
    return [tuple(line.split(" ")) for line in lines]
