# Copyright (c) mvp_mm authors. All rights reserved.
"""A shard's images put to a trained model: one line per image, faults beside them."""
from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from mvp_mm.captioning.backends import ImageError
from mvp_mm.captioning.jobs import AnswerBackend
from mvp_mm.utils.processes import FORKS
from tests.helpers import ROOT


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(3)
    for number in range(5):
        pixels = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f'{number}.png')
    (tmp_path / '1.png').write_bytes(b'no image')
    (tmp_path / '3.png').unlink()
    return [tmp_path / f'{number}.png' for number in range(5)]


@pytest.mark.parametrize('workers', [1, pytest.param(
    2, marks=pytest.mark.skipif(not FORKS, reason='no fork on this system'))])
def test_images_behind_an_unreadable_and_a_missing_one_are_answered(images, workers):
    question = dict(text=['the red circle', 'all stars'], thinking=False)
    backend = AnswerBackend(str(ROOT / 'mvp_mm/weights/tiny'), 'cpu', question, 2, workers, 5)
    found = backend.caption(images)
    assert [type(answer) is ImageError for answer in found] == [False, True, False, True, False]
    assert '1.png' in str(found[1]) and '3.png' in str(found[3])
    for number in (0, 2, 4):
        asked = json.loads(found[number].text)
        assert [answer['image'] for answer in asked] == [str(images[number])] * 2
        assert [answer['question']['text'] for answer in asked] == question['text']
