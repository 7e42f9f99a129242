# Copyright (c) mvp_mm authors. All rights reserved.
"""Captions that are wrong by a known share."""
from __future__ import annotations

from random import Random

import pytest

from mvp_mm.synthetic import captions, sample_scene
from mvp_mm.synthetic.caption_errors import ERRORS, wrong_caption
from mvp_mm.synthetic.caption_reading import judge_caption, read_caption

SCENES = [sample_scene(Random(seed)) for seed in range(30)]


def objects(error, rate):
    """Right and claimed objects over all scenes."""
    total = [0, 0]
    for seed, scene in enumerate(SCENES):
        reading = read_caption(wrong_caption(scene, error, rate, Random(seed)))
        assert reading.unread == 0
        verdict = judge_caption(reading, scene)['objects']
        total = [total[0] + verdict.right, total[1] + verdict.claimed]
    return total


@pytest.mark.parametrize('error', ERRORS)
def test_without_errors_the_caption_is_the_true_one(error):
    assert all(wrong_caption(scene, error, 0., Random(0)) == captions.list_caption(scene)
               for scene in SCENES)


def test_every_swapped_object_is_wrong():
    right, claimed = objects('swapped', 1.)
    assert right == 0 and claimed > 0


def test_negated_objects_are_not_claimed():
    assert objects('negated', 1.) == [0, 0]


def test_invented_objects_stand_beside_the_true_ones():
    true, _ = objects('invented', 0.)
    right, claimed = objects('invented', 1.)
    assert right == true < claimed


@pytest.mark.parametrize('error', ERRORS)
def test_more_errors_are_more_wrong(error):
    def wrong(rate):
        right, claimed = objects(error, rate)
        true, _ = objects(error, 0.)
        return (claimed - right) + (true - right)
    assert wrong(0.) == 0 < wrong(0.3) < wrong(1.)


def test_an_unknown_error_and_rate_are_refused():
    with pytest.raises(ValueError, match="'swapped', 'negated', 'invented'"):
        wrong_caption(SCENES[0], 'typos', 0.5, Random(0))
    with pytest.raises(ValueError, match='2.0'):
        wrong_caption(SCENES[0], 'swapped', 2.0, Random(0))
