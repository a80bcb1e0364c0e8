"""The words of one use of a picture."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from backend.data.captions import draw_caption
from backend.data.subsets import Subset

PLAIN = Subset(Path("pictures"))
SHUFFLED = replace(PLAIN, shuffle_caption=True)


def draws(raw, subset, count=600):
    return [draw_caption(raw, subset, seed) for seed in range(count)]


def test_without_any_wish_a_caption_is_left_as_it_was_written():
    assert set(draws("a ,b,,  c;d", PLAIN)) == {"a ,b,,  c;d"}


def test_all_orders_of_a_shuffled_caption_come_up_about_alike_often():
    counts = Counter(draws("a,b , c", SHUFFLED))
    assert set(counts) == {"a, b, c", "a, c, b", "b, a, c", "b, c, a", "c, a, b", "c, b, a"}
    assert all(60 < count < 140 for count in counts.values())  # 100 wanted, standard deviation 9


def test_the_first_parts_stay_in_place():
    assert set(draws("x, y, a, b", replace(SHUFFLED, keep_tokens=2))) == {"x, y, a, b", "x, y, b, a"}


def test_a_caption_keeps_its_own_separator():
    assert set(draws("a;b, c", replace(SHUFFLED, caption_separator=";"))) == {"a; b, c", "b, c; a"}


def test_a_caption_is_left_out_as_often_as_asked():
    empty = draws("a, b", replace(PLAIN, caption_dropout_rate=0.25), 2000).count("")
    assert 420 < empty < 580  # 500 wanted, standard deviation 19


def test_rates_of_none_and_one_are_exact():
    assert "" not in draws("a", replace(PLAIN, caption_dropout_rate=0.0))
    assert set(draws("a", replace(PLAIN, caption_dropout_rate=1.0))) == {""}


def test_a_draw_depends_on_its_seed_alone():
    words = ", ".join("abcdefgh")
    assert draws(words, SHUFFLED, 20) == draws(words, SHUFFLED, 20)
    assert len(set(draws(words, SHUFFLED, 20))) > 15
