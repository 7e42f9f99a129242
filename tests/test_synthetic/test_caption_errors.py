# Copyright (c) mvp_mm authors. All rights reserved.
"""Captions that are wrong by a known share."""
from __future__ import annotations

import json
import sys
from random import Random

import pytest

from mvp_mm.datasets import CaptionStore
from mvp_mm.synthetic import captions, sample_scene
from mvp_mm.synthetic.caption_errors import ERRORS, wrong_caption, wrong_captions
from mvp_mm.synthetic.caption_reading import judge_caption, read_caption
from mvp_mm.synthetic.known_scenes import KnownScenes
from tests.helpers import load_tool

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


def test_shuffled_captions_are_those_of_other_images(world):
    scenes, numbers = KnownScenes(world), range(1, 25)
    true = wrong_captions(scenes, numbers, 'swapped', 0., 0)
    shuffled = wrong_captions(scenes, numbers, 'shuffled', 1., 0)
    assert sorted(shuffled.values()) == sorted(true.values())
    assert sum(shuffled[number] == true[number] for number in numbers) == 0


def test_shuffling_needs_two_images_and_all_of_them(world):
    scenes = KnownScenes(world)
    with pytest.raises(ValueError, match='two at least'):
        wrong_captions(scenes, [1], 'shuffled', 1., 0)
    with pytest.raises(ValueError, match=r'rate 1, got 0\.5'):
        wrong_captions(scenes, [1, 2], 'shuffled', 0.5, 0)


def test_the_errors_of_an_image_do_not_depend_on_the_other_images(world):
    scenes = KnownScenes(world)
    whole = wrong_captions(scenes, range(1, 10), 'swapped', 0.5, 3)
    assert wrong_captions(scenes, [7], 'swapped', 0.5, 3) == {7: whole[7]}


def run_tool(monkeypatch, *args):
    monkeypatch.setattr(sys, 'argv', ['make_wrong_captions', *map(str, args)])
    load_tool('data/make_wrong_captions').main()


def test_the_command_writes_a_store_with_one_caption_for_each_training_image(
        world, monkeypatch, tmp_path):
    out = tmp_path / 'wrong.json'
    run_tool(monkeypatch, world, '--error', 'swapped', '--rate', 0.5, '--out', out)
    names = sorted(path.name for path in (world / 'images/train').iterdir())
    assert sorted(json.loads(out.read_text())['captions']) == names
    store, scenes = CaptionStore(out), KnownScenes(world)
    assert store.get(names[4]) == list(wrong_captions(scenes, [5], 'swapped', 0.5, 0).values())


def test_the_command_names_a_folder_that_is_no_world(monkeypatch, tmp_path):
    with pytest.raises(SystemExit, match='no synthetic world'):
        run_tool(monkeypatch, tmp_path, '--error', 'negated')
