import subprocess
import sys
import unicodedata

import numpy as np
import pytest

from backend.models.tokens import END_ID, START_ID, clip_vocabulary, count_tokens, encode, read_merges, tokenize_clip

ODD_CAPTIONS = [
    "", " ", "a photo of a cat", "A Photo OF a CAT", "1girl, solo, (masterpiece:1.2), best quality", "it's they're we've I'm he'll she'd don't",
    "  many   spaces\tand\nlines \r\n", "12345 67,8", "naïve café Ünïcödé", "日本語の文字と漢字", "русский текст", "emoji 😀👩‍👩‍👧‍👦 family",
    "e\u0301 composed and decomposed \u00e9", "underscore_in_tag, another_tag", "<|endoftext|>", "before <|startoftext|>mid<|endoftext|> after",
    "<|ENDOFTEXT|>", "sks", "x" * 300, "!!! ??? ...,,, --- ''' \"\"\"", "\u00a0non-breaking\u2003em space", "İstanbul ǅ ß ﬁ", "\x00\x01 control \x7f", "٣٤ ½ Ⅷ ²",
    "ابجد هوز", "हिन्दी", "ไทย", "a\u200bb zero width", "\ufeffbom", "@user #tag http://a.b/c?d=e&f=g", "C++ C# f(x)=x^2", ",", "'s", "'", "a" + "," * 90, "\U0001f9ff" * 40,
]


@pytest.fixture(scope="module")
def their_tokenizer():
    from transformers import CLIPTokenizer

    merges = read_merges()
    return CLIPTokenizer(vocab=clip_vocabulary(merges), merges=merges, model_max_length=77)


def test_a_known_caption_has_the_published_ids():
    assert encode("a photo of a cat") == [320, 1125, 539, 320, 2368]
    assert encode("hello world !") == [3306, 1002, 256]


def test_the_vocabulary_has_clips_size_and_order():
    vocabulary = clip_vocabulary(read_merges())
    assert len(vocabulary) == 49408
    assert vocabulary["!"] == 0 and vocabulary["!</w>"] == 256 and vocabulary["in"] == 512
    assert vocabulary["<|startoftext|>"] == START_ID == 49406 and vocabulary["<|endoftext|>"] == END_ID == 49407


@pytest.mark.parametrize("caption", ODD_CAPTIONS, ids=range(len(ODD_CAPTIONS)))
def test_ids_equal_those_of_transformers(caption, their_tokenizer):
    theirs = their_tokenizer(caption, padding="max_length", truncation=True, max_length=77)["input_ids"]
    assert tokenize_clip([caption])[0].tolist() == theirs
    assert count_tokens(caption) == len(their_tokenizer(caption, add_special_tokens=False)["input_ids"])


def test_ids_equal_those_of_transformers_for_random_text(their_tokenizer):
    draw = np.random.default_rng(3)
    for _ in range(300):
        points = draw.choice([*range(32, 127), *range(160, 1400), *range(0x3040, 0x30ff), *range(0x1f300, 0x1f600)], size=draw.integers(1, 60))
        caption = "".join(chr(point) for point in points if unicodedata.category(chr(point)) != "Cn")
        assert encode(caption) == their_tokenizer(caption, add_special_tokens=False)["input_ids"], ascii(caption)


def test_a_long_caption_is_cut_and_still_ends_with_the_end_mark():
    ids = tokenize_clip(["cat " * 100])[0]
    assert ids.shape == (77,) and ids.dtype == np.int64
    assert ids[0] == START_ID and (ids[1:76] == 2368).all() and ids[76] == END_ID
    assert count_tokens("cat " * 100) == 100


def test_padding_may_be_another_id():
    assert tokenize_clip(["cat", ""], pad_id=0).tolist() == [[START_ID, 2368, END_ID] + [0] * 74, [START_ID, END_ID] + [0] * 75]


def test_tokens_are_counted_without_loading_torch():
    code = "import sys; from backend.models.tokens import count_tokens; count_tokens('a cat'); sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
