# Copyright (c) mvp_mm authors. All rights reserved.
"""The metric of captions that can be checked."""
from __future__ import annotations

import pytest

from mvp_mm.evaluation import CaptionTruthMetric
from mvp_mm.synthetic import WorldParameters, captions, make_world
from mvp_mm.synthetic.known_scenes import KnownScenes


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp('world')
    make_world(folder, WorldParameters(seed=5, train=1, val=4))
    return folder


def samples(world, write):
    """One sample per held-out image, as a metric gets it."""
    scenes = KnownScenes(world)
    for path in sorted((world / 'images/val').iterdir()):
        scene = scenes[int(path.stem)]
        yield dict(img_id=int(path.stem), img_path=str(path), pred_caption=write(scene),
                   ori_shape=(scene.height, scene.width))


def evaluate(world, write):
    metric = CaptionTruthMetric(str(world))
    metric.process(None, list(samples(world, write)))
    return metric.evaluate(4)


def test_true_captions_have_no_hallucination(world):
    found = evaluate(world, captions.list_caption)
    assert found['caption/objects_precision'] == found['caption/stuff_F1'] == 100
    assert found['caption/hallucinations'] == found['caption/unread'] == found['caption/empty'] == 0


def test_figures_are_over_all_captions_together(world):
    # A heart and a star per image, of which some have none.
    scenes = KnownScenes(world)
    every = [scenes[int(p.stem)] for p in sorted((world / 'images/val').iterdir())]
    right = sum(any(t.shape == shape for t in scene.things)
                for scene in every for shape in ('heart', 'star'))
    things = sum(len(scene.things) for scene in every)
    found = evaluate(world, lambda scene: 'a heart and a star')
    assert 0 < right < 8
    assert found['caption/shapes_precision'] == pytest.approx(100 * right / 8)
    assert found['caption/shapes_recall'] == pytest.approx(100 * right / things)
    assert found['caption/shapes_F1'] == pytest.approx(200 * right / (8 + things))
    assert found['caption/hallucinations'] == pytest.approx((8 - right) / 4)


def test_captions_without_a_word_find_nothing(world):
    found = evaluate(world, lambda scene: '')
    assert found['caption/empty'] == 100 and found['caption/objects_F1'] == 0


def test_an_image_of_another_world_is_refused(world):
    sample = next(samples(world, captions.list_caption))
    metric = CaptionTruthMetric(str(world))
    with pytest.raises(ValueError, match='an image of another world'):
        metric.process(None, [dict(sample, ori_shape=(10, 10))])
    with pytest.raises(ValueError, match='no image of the world'):
        metric.process(None, [dict(sample, img_path='photos/000000500009.jpg')])
