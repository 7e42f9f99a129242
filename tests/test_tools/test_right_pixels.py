# Copyright (c) mvp_mm authors. All rights reserved.
"""The share of pixels that get the right word, of things and of stuff."""
from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mvp_mm.apis.answer import Segments
from tests.helpers import load_tool

TOOL = load_tool('analysis_tools/right_pixels')
TRUTH = dict(
    categories=[dict(id=3, name='cat', isthing=1), dict(id=8, name='sky', isthing=0)],
    images=[dict(id=5, file_name='a.jpg')],
    annotations=[dict(image_id=5, file_name='a.png', segments_info=[
        dict(id=1, category_id=3), dict(id=300, category_id=8)])])


@pytest.fixture
def asked(tmp_path):
    """A model that answers one map, and what it was asked."""
    ids = np.zeros((4, 10, 3), np.uint8)
    ids[0, :, 0] = 1                 # ten pixels of the cat
    ids[1:3, :, :2] = 300 % 256, 1   # twenty of the sky; the last row has no class
    Image.fromarray(ids).save(tmp_path / 'a.png')
    answered = np.zeros((4, 10), np.int32)
    answered[0, :5], answered[0, 5:] = 7, 9    # half of the cat is sky
    answered[1:, :] = 9
    answered[1, :5] = 0              # a quarter of the sky has no answer
    info = [dict(id=7, label='cat', isthing=True, score=1.),
            dict(id=9, label='sky', isthing=False, score=1.)]
    questions = []

    def model(image, **question):
        questions.append((image.name, question))
        return SimpleNamespace(segments=Segments(answered, info))

    return model, questions


def test_pixels_of_things_and_of_stuff_are_counted_apart(asked, tmp_path):
    model, questions = asked
    found = TOOL.count_right(model, TRUTH, tmp_path, tmp_path, stuff=['sky'], task='panoptic')
    assert found == pytest.approx(dict(things=50., stuff=75., all=100 * 20 / 30))
    (name, question), = questions
    assert name == 'a.jpg' and question['words'] == ['cat', 'sky'] and question['stuff'] == ['sky']
