"""Buckets: the list, the choice, the geometry."""

import math

import pytest

from backend.data.buckets import BucketRule, Geometry, bucket_sizes, cover, cut_away, nearest_bucket, shrink_only


def test_the_buckets_of_512_are_the_community_s_17():
    tall = [(256, 832), (256, 896), (256, 960), (256, 1024), (320, 704), (320, 768), (384, 640), (448, 576)]
    expected = sorted(tall + [(512, 512)] + [(height, width) for width, height in tall])
    assert bucket_sizes((512, 512), 256, 1024, 64) == expected


def test_1024_has_33_buckets():
    assert len(bucket_sizes((1024, 1024), 512, 2048, 64)) == 33


def test_a_resolution_that_is_not_square_gives_only_its_area():
    assert bucket_sizes((768, 512), 256, 1024, 64) == bucket_sizes((512, 768), 256, 1024, 64)


def test_the_shortest_side_is_rounded_down_and_the_longest_up():
    assert bucket_sizes((512, 512), 300, 1000, 64) == bucket_sizes((512, 512), 256, 1024, 64)


def test_no_bucket_is_narrower_than_64_pixels():
    assert min(min(bucket) for bucket in bucket_sizes((128, 128), 8, 1024, 8)) == 64


@pytest.mark.parametrize("size, bucket", [
    ((512, 512), (512, 512)),
    ((1000, 1000), (512, 512)),
    ((960, 256), (960, 256)),  # a bucket's own size, though others are of nearly that shape
    ((1920, 1080), (640, 384)),  # log ratio .575; 640x384 has .511, 704x320 .788
    ((1000, 700), (576, 448)),  # .357 against .251 and .511
    ((100, 3000), (256, 1024)),
])
def test_a_picture_goes_to_the_bucket_of_the_nearest_shape(size, bucket):
    assert nearest_bucket(size, bucket_sizes((512, 512), 256, 1024, 64)) == bucket


def test_wide_and_tall_pictures_are_treated_alike():
    candidates = bucket_sizes((512, 512), 256, 1024, 64)
    for width in range(100, 2000, 37):
        assert nearest_bucket((width, 700), candidates) == nearest_bucket((700, width), candidates)[::-1]


def test_of_two_equally_near_buckets_the_larger_is_taken():
    assert nearest_bucket((300, 300), [(256, 128), (128, 256), (192, 192), (384, 384)]) == (384, 384)
    assert nearest_bucket((200, 100), [(128, 128), (512, 128)]) == (512, 128)


@pytest.mark.parametrize("size, bucket, resized, crop", [
    ((1000, 700), (576, 448), (640, 448), (32, 0)),
    ((700, 1000), (448, 576), (448, 640), (0, 32)),
    ((512, 512), (512, 512), (512, 512), (0, 0)),
    ((100, 301), (128, 256), (128, 385), (0, 64)),  # 385.28; (385 - 256) / 2 = 64.5, rounded down
    ((200, 301), (100, 100), (100, 151), (0, 25)),  # 150.5 is rounded up
    ((640, 480), (64, 64), (85, 64), (10, 0)),  # 85.33
])
def test_a_picture_covers_its_bucket_and_is_cut_in_the_middle(size, bucket, resized, crop):
    assert cover(size, bucket) == Geometry(resized, crop, bucket)


def test_the_crop_of_a_mirrored_picture_is_counted_from_the_other_side():
    assert Geometry((101, 64), (18, 0), (64, 64)).mirrored_left() == 19


@pytest.mark.parametrize("size, area, resized, bucket", [
    ((3072, 3000), 512 * 512, (524, 512), (512, 512)),  # the usual rule gives 448x448
    ((3072, 3000), 1024 * 1024, (1049, 1024), (1024, 1024)),
    ((300, 200), 512 * 512, (300, 200), (256, 192)),  # fits: cut, not resized
    ((512, 512), 512 * 512, (512, 512), (512, 512)),
    ((63, 500), 512 * 512, (64, 508), (64, 448)),  # the usual rule gives a side of 0
    ((20, 20), 512 * 512, (64, 64), (64, 64)),
    ((100, 50000), 512 * 512, (64, 32000), (64, 4096)),
])
def test_without_upscaling_the_bucket_follows_from_the_picture(size, area, resized, bucket):
    geometry = shrink_only(size, area, 64)
    assert (geometry.resized, geometry.bucket) == (resized, bucket)


def test_without_upscaling_sizes_stay_within_their_bounds():
    for width in range(64, 4000, 61):
        for height in range(64, 4000, 73):
            geometry = shrink_only((width, height), 512 * 512, 64)
            across, down = geometry.bucket
            assert across % 64 == down % 64 == 0 and across * down <= 512 * 512
            assert all(0 <= crop and crop + side <= full for crop, side, full in zip(geometry.crop, geometry.bucket, geometry.resized))
            narrow = min(width, height) * min(1, 512 / math.sqrt(width * height)) < 64
            if not narrow:
                assert geometry.resized[0] <= width and geometry.resized[1] <= height
                steps = min(width, height) * min(1, 512 / math.sqrt(width * height)) // 64
                assert cut_away((width, height), geometry.bucket) <= math.log((steps + 1) / steps) + 1e-9


def test_without_buckets_every_picture_gets_exactly_the_resolution():
    rule = BucketRule((512, 768))
    assert rule.geometry(1000, 1000) == Geometry((768, 768), (128, 0), (512, 768))


@pytest.mark.parametrize("rule, word", [
    (BucketRule((500, 512)), "resolution"),
    (BucketRule((512, 512), True, bucket_reso_steps=20), "bucket_reso_steps"),
    (BucketRule((512, 512), True, bucket_reso_steps=1024), "bucket_reso_steps"),
    (BucketRule((128, 128), True), "min_bucket_reso"),
    (BucketRule((2048, 2048), True), "max_bucket_reso"),
])
def test_options_that_allow_no_bucket_are_a_fault(rule, word):
    assert [fault.split()[0] for fault in rule.faults()] == [word]


def test_usable_options_are_no_fault():
    assert BucketRule((500, 512), True).faults() == []
    assert BucketRule((128, 128), True, bucket_no_upscale=True).faults() == []
