# Copyright (c) mvp_mm authors. All rights reserved.
"""Scenes and what sentences about them mean."""
from __future__ import annotations

from random import Random

import numpy as np
import pytest

from mvp_mm.synthetic import (
    STUFF_CLASSES,
    Expression,
    Noun,
    Scene,
    SceneView,
    Thing,
    sample_groups,
    sample_references,
    sample_scene,
)
from mvp_mm.synthetic.scene import thing_mask


@pytest.fixture(scope='module')
def scenes():
    """Scenes with their sentences: ``(scene, [sentence])``."""
    result = []
    for index in range(60):
        rng = Random(index)
        scene = sample_scene(rng)
        sentences = [s for _, group in sample_references(scene, rng) for s in group]
        result.append((scene, sentences + sample_groups(scene, rng)))
    return result


def scene_of(*things):
    """Scene with the given things on grass (upper half) and sand."""
    ground = np.zeros((128, 128), np.uint8)
    ground[64:] = STUFF_CLASSES.index('sand')
    instance_map = np.full((128, 128), -1, np.int8)
    for k, thing in enumerate(things):
        instance_map[thing_mask(thing, 128, 128)] = k
    return Scene(things, ground, instance_map)


def small(shape, colour, x, y):
    return Thing(shape, colour, 'small', 'plain', 20, 0, (x, y))


def test_things_stay_visible(scenes):
    for scene, _ in scenes:
        for thing, mask in zip(scene.things, scene.masks, strict=True):
            whole = thing_mask(thing, scene.height, scene.width)
            assert mask.sum() >= max(80, 0.5 * whole.sum())


def satisfying(scene, part):
    """Plain-loop meaning of an expression, by visible masks, without margins."""
    centre = []
    for mask in scene.masks:
        ys, xs = np.nonzero(mask)
        centre.append(((xs.min() + xs.max() + 1) / 2, (ys.min() + ys.max() + 1) / 2))

    def named(noun):
        return [k for k, thing in enumerate(scene.things) if all(
            getattr(noun, name) in (None, getattr(thing, name))
            for name in ('shape', 'colour', 'size', 'texture'))]

    key = {'left': lambda k: centre[k][0], 'right': lambda k: -centre[k][0],
           'top': lambda k: centre[k][1], 'bottom': lambda k: -centre[k][1],
           'largest': lambda k: -scene.things[k].extent,
           'smallest': lambda k: scene.things[k].extent}
    names = named(part.noun)
    if part.kind == 'attribute':
        return set(names)
    if part.kind == 'extreme':
        return set(sorted(names, key=key[part.word])[:part.rank])
    if part.kind == 'ordinal':
        return set(sorted(names, key=key[part.word])[part.rank - 1:part.rank])
    if part.kind == 'on_stuff':
        kinds = [STUFF_CLASSES[scene.ground[int(centre[k][1]), int(centre[k][0])]] for k in names]
        return {k for k, kind in zip(names, kinds, strict=True) if kind == part.word}
    anchors = named(part.anchor)
    if not anchors or part.word == 'next to':
        return None
    side = {'left of': 'left', 'right of': 'right', 'above': 'top', 'below': 'bottom'}[part.word]
    return {k for k in names if k != anchors[0] and key[side](k) < key[side](anchors[0])}


def test_every_sentence_means_its_targets_by_plain_loops(scenes):
    checked = 0
    for scene, sentences in scenes:
        for sentence in sentences:
            meanings = [satisfying(scene, part) for part in sentence.parts]
            if None not in meanings:
                assert set().union(*meanings) == set(sentence.targets), sentence
                checked += 1
    assert checked > 300


def test_relations_start_from_a_unique_anchor(scenes):
    for scene, sentences in scenes:
        view = SceneView(scene)
        for sentence in sentences:
            for part in sentence.parts:
                assert part.anchor is None or len(view.named(part.anchor)) <= 1


def test_close_calls_are_not_clear():
    scene = scene_of(small('circle', 'red', 40, 30), small('circle', 'blue', 44, 90))
    view = SceneView(scene)
    leftmost = view.read(Expression('extreme', Noun('circle'), 'left'))
    topmost = view.read(Expression('extreme', Noun('circle'), 'top'))
    assert leftmost.possible == {0, 1} and not leftmost.clear
    assert topmost.clear and topmost.sure == {0}


def test_relation_with_two_possible_anchors_is_not_clear():
    scene = scene_of(small('star', 'red', 20, 30), small('circle', 'red', 60, 30),
                     small('circle', 'blue', 100, 30))
    view = SceneView(scene)
    vague = Expression('relation', Noun('star'), 'left of', anchor=Noun('circle'))
    exact = Expression('relation', Noun('star'), 'left of', anchor=Noun('circle', 'blue'))
    assert not view.read(vague).clear
    assert view.read(exact).clear and view.read(exact).sure == {0}


def test_on_stuff_needs_most_of_the_thing_there():
    scene = scene_of(small('star', 'red', 20, 30), small('heart', 'blue', 60, 66))
    view = SceneView(scene)
    assert view.read(Expression('on_stuff', Noun('star'), 'grass')).sure == {0}
    assert not view.read(Expression('on_stuff', Noun('heart'), 'sand')).clear


def test_unknown_word_in_a_noun_is_refused():
    with pytest.raises(ValueError, match='pentagon'):
        Noun(shape='pentagon')
