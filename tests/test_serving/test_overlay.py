# Copyright (c) mvp_mm authors. All rights reserved.
"""The drawing of an answer on the page."""
from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from mvp_mm.utils.masks import encode_masks

pytest.importorskip('pydantic', reason="serving needs 'mvp_mm[serve]'")


def draw(size, objects, names=(), is_found=True):
    from mvp_mm.serving.overlay import draw_overlay
    from mvp_mm.serving.schema import PredictResponse, Seconds

    width, height = size
    return draw_overlay(PredictResponse(
        id='1', task='instance', reason='', image_size=(height, width), found=is_found,
        batch_size=1, objects=objects, seconds=Seconds(decode=0, queue=0, model=0, total=0)),
        Image.new('RGB', size), names)


def found(label='cat', box=(0, 0, 1, 1), mask=None, **more):
    item = dict(label=label, score=0.5, box=box, **more)
    if mask is not None:
        rle, = encode_masks(mask[None])
        item['mask'] = dict(size=rle['size'], counts=rle['counts'].decode())
    return item


@pytest.mark.parametrize('objects, is_found, told', [
    ([], False, 'Nothing was found.'), ([found()], False, 'Not found: this is a guess.'),
    ([found()], True, None)])
def test_the_page_says_what_was_not_found(objects, is_found, told):
    assert re.findall('<p class="nothing">(.*)</p>', draw((100, 80), objects, (), is_found)) == (
        [told] if told else [])


@pytest.mark.parametrize('size', [(100, 80), (4000, 3200)])
def test_the_drawing_has_one_size_for_small_and_large_pictures(size):
    width, height = size
    box = (width * 0.25, height * 0.5, width * 0.75, height)
    drawn = draw(size, [found(box=box)])
    assert 'viewBox="0 0 1280 1024"' in drawn
    assert 'x="320.0" y="512.0" width="640.0" height="512.0"' in drawn
    assert 'font-size="30.5"' in drawn


@pytest.mark.parametrize('scale', [1, 40])
def test_an_outline_runs_along_its_mask(scale):
    mask = np.zeros((80 * scale, 100 * scale), dtype=bool)
    mask[20 * scale:60 * scale, 25 * scale:] = True
    path = re.search(r' d="([^"]+)"', draw(mask.shape[::-1], [found(mask=mask)]))[1]
    points = np.array(re.findall(r'(\d+) (\d+)', path), dtype=int)
    assert np.abs(points.min(axis=0) - (320, 256)).max() <= 1
    assert np.abs(points.max(axis=0) - (1279, 767)).max() <= 1


def test_a_hole_stays_open():
    mask = np.zeros((80, 100), dtype=bool)
    mask[10:70, 10:90] = True
    mask[30:50, 30:50] = False
    path = re.search(r' d="([^"]+)"', draw((100, 80), [found(mask=mask)]))[1]
    assert path.count('M') == 2


def test_a_tag_stays_inside_of_the_picture():
    drawn = draw((100, 80), [found('a name that goes on and on ' * 8, box=(95, 0, 100, 5))])
    x, y, width = map(float, re.search(
        r'class="tag"[^>]*><rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)"', drawn).groups())
    assert x >= 0 and y >= 0 and x + width <= 1281


def test_a_word_has_the_colour_of_its_place_in_the_question():
    one = draw((100, 80), [found('dog')], ['cat', 'dog'])
    both = draw((100, 80), [found('cat'), found('dog')], ['cat', 'dog'])

    def color(drawn, name):
        return re.search(rf'fill="([^"]+)" stroke="[^"]+"><title>{name}', drawn)[1]

    assert color(one, 'dog') == color(both, 'dog') != color(both, 'cat')


def test_regions_are_drawn_without_boxes_and_empty_answers_say_so():
    mask = np.ones((80, 100), dtype=bool)
    region = draw((100, 80), [found(mask=mask, segment_id=1, is_thing=False)])
    assert re.search(r'class="shape stuff"[^>]*><title>cat 0.50</title><path [^>]+/></g>', region)
    assert 'Nothing was found' in draw((100, 80), [])
