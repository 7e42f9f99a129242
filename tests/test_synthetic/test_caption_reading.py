# Copyright (c) mvp_mm authors. All rights reserved.
"""What captions of the synthetic world mention, and whether it is true."""
from __future__ import annotations

import json
from random import Random

import numpy as np
import pytest

from mvp_mm.synthetic import Noun, Scene, Thing, WorldParameters, captions, make_world, sample_scene
from mvp_mm.synthetic.caption_reading import Mention, Verdict, judge_caption, read_caption
from mvp_mm.synthetic.known_scenes import KnownScenes
from mvp_mm.synthetic.scene import thing_mask
from mvp_mm.synthetic.vocabulary import STUFF_CLASSES


def thing(shape, colour, centre, size='small', texture='plain'):
    extent = 20. if size == 'small' else 40.
    return Thing(shape, colour, size, texture, extent, 0., centre)


@pytest.fixture(scope='module')
def scene():
    """Two red circles, a blue star in the middle and a large green star, on grass and sand."""
    things = (thing('circle', 'red', (20., 20.)), thing('circle', 'red', (108., 20.)),
              thing('star', 'blue', (64., 64.)), thing('star', 'green', (40., 100.), 'large'))
    ground = np.full((128, 128), STUFF_CLASSES.index('grass'), np.uint8)
    ground[80:] = STUFF_CLASSES.index('sand')
    instances = np.full((128, 128), -1, np.int8)
    for k, one in enumerate(things):
        instances[thing_mask(one, 128, 128)] = k
    return Scene(things, ground, instances)


def judged(text, scene, aspect):
    return tuple(judge_caption(read_caption(text), scene)[aspect])


def test_a_mention_has_number_attributes_shape_and_place():
    reading = read_caption('Two small striped red circles, a star at the top left on grass.')
    assert reading.mentions == [
        Mention(Noun('circle', 'red', 'small', 'striped'), 2),
        Mention(Noun('star'), 1, 'at the top left')]
    assert reading.stuff == {'grass'} and reading.unread == 0


def test_words_outside_of_the_grammar_are_counted():
    reading = read_caption('a red circle. it may be a game')
    assert (reading.unread, reading.words) == (5, 8)


# right, claimed, true
CASES = {
    'all objects': ('two red circles, a blue star and a large green star', 'objects', (4, 4, 4)),
    'a wrong colour': ('two red circles and a yellow star', 'objects', (2, 3, 4)),
    'a wrong size': ('a small green star', 'objects', (0, 1, 4)),
    'the colour holds all the same': ('a small green star', 'colours', (1, 1, 4)),
    'the shape holds all the same': ('a yellow star', 'shapes', (1, 1, 4)),
    'without a colour nothing is said of colours': ('two circles', 'colours', (0, 0, 4)),
    'one thing named twice': ('a blue star, a blue star', 'objects', (1, 2, 4)),
    'the exact name takes the thing it fits': ('a star, a blue star', 'objects', (2, 2, 4)),
    'too many': ('three red circles', 'objects', (2, 3, 4)),
    'an invented shape': ('a heart', 'objects', (0, 1, 4)),
    'things without a shape are no objects': ('four things on grass', 'objects', (0, 0, 4)),
    'right numbers': ('there are two circles and two stars', 'counts', (2, 2, 2)),
    'a wrong number': ('there are two circles and three stars', 'counts', (1, 2, 2)),
    'numbers of one shape add up': ('a blue star and a green star', 'counts', (1, 1, 2)),
    'the number of all things': ('four things, mostly stars, on grass', 'counts', (1, 1, 3)),
    'a place says nothing of the number': ('a red circle at the top left', 'counts', (0, 0, 2)),
    'more things, so no totals': ('a red circle and more things', 'counts', (0, 0, 2)),
    'none where there is none': ('no hearts', 'counts', (1, 1, 3)),
    'none where there are some': ('no stars', 'counts', (0, 1, 2)),
    'a negated object is not claimed': ('no heart and a blue star', 'objects', (1, 1, 4)),
    'places': ('a red circle at the top left, a star in the middle', 'places', (2, 2, 4)),
    'a wrong place': ('a red circle at the bottom left', 'places', (0, 1, 4)),
    'the right place of another': ('a star at the top left', 'places', (0, 1, 4)),
    'grounds': ('two circles on sand and snow', 'stuff', (1, 2, 2)),
    'nothing': ('', 'objects', (0, 0, 4)),
}


@pytest.mark.parametrize('text, aspect, expected', CASES.values(), ids=CASES.keys())
def test_a_caption_is_judged_by_what_is_there(scene, text, aspect, expected):
    assert judged(text, scene, aspect) == expected


@pytest.mark.parametrize('write', [
    lambda scene, rng: captions.list_caption(scene),
    lambda scene, rng: captions.count_caption(scene),
    lambda scene, rng: captions.summary_caption(scene),
    captions.place_caption, captions.full_caption,
    lambda scene, rng: captions.grounded_caption(scene, rng)[0],
], ids=['list', 'count', 'summary', 'place', 'full', 'grounded'])
def test_every_caption_that_the_world_writes_is_read_whole_and_true(write):
    total = {}
    for seed in range(60):
        rng = Random(seed)
        scene = sample_scene(rng)
        text = write(scene, rng)
        reading = read_caption(text)
        assert reading.unread == 0, text
        for aspect, verdict in judge_caption(reading, scene).items():
            assert verdict.right == verdict.claimed, (aspect, text)
            total[aspect] = total.get(aspect, Verdict()) + verdict
    if write is captions.full_caption:
        assert total['objects'].right == total['objects'].true
        assert total['stuff'].right == total['stuff'].true


def test_every_place_that_is_said_is_among_the_places():
    said = set()
    for seed in range(300):
        scene = sample_scene(Random(seed))
        said |= {captions.place_of(scene, k) for k in range(len(scene.things))}
    assert said - {None} == set(captions.PLACES)


def test_known_scenes_are_those_of_the_images(tmp_path):
    make_world(tmp_path, WorldParameters(seed=3, train=2, val=2))
    scenes = KnownScenes(tmp_path)
    texts = json.loads((tmp_path / 'annotations/captions_val.json').read_text())
    for entry in texts:
        number = int(entry['id'])
        verdict = judge_caption(
            read_caption(entry['conversations'][1]['value']), scenes[number])['objects']
        assert verdict.right == verdict.claimed == verdict.true
    with pytest.raises(KeyError, match='no image 3'):
        scenes[3]


def test_another_generator_and_no_world_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='no synthetic world'):
        KnownScenes(tmp_path)
    (tmp_path / 'world.json').write_text('{"parameters": {"seed": 0, "version": 0}}')
    with pytest.raises(ValueError, match='version 0, this generator of version'):
        KnownScenes(tmp_path)
