# Copyright (c) mvp_mm authors. All rights reserved.
"""The server around a real model: its answers are those of the Python interface."""
from __future__ import annotations

import base64
import io
import threading

import numpy as np
import pytest
from PIL import Image

mvp_mm = pytest.importorskip('mvp_mm')
if not hasattr(mvp_mm, 'MVP'):
    pytest.skip('the Python interface MVP is not there', allow_module_level=True)

from tests.test_apis.conftest import checkpoint  # noqa: E402, F401
from tests.test_serving.test_batches import ask_while_held  # noqa: E402


@pytest.fixture(scope='module')
def real_model(checkpoint):  # noqa: F811
    return mvp_mm.MVP(checkpoint, 'cpu')


def picture(number):
    pixels = np.random.default_rng(number).integers(0, 255, (40 + number, 60, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encode(image, **question):
    file = io.BytesIO()
    image.save(file, 'PNG')
    return dict(image=base64.b64encode(file.getvalue()).decode(), thinking=False, threshold=0,
                **question)


@pytest.mark.parametrize('question', [
    dict(words=['cat', 'grass'], stuff=['grass'], task='panoptic'),
    dict(words=['cat', 'dog'], task='detection'), dict(text='the cat on the left')])
def test_answers_in_a_batch_are_those_of_the_model(serve, real_model, question):
    class Held:
        """Waits before it answers, so that the requests come together."""

        def __init__(self):
            self.go_on, self.batches = threading.Event(), []

        def __call__(self, images, **more):
            assert self.go_on.wait(60)
            self.batches.append(len(images))
            return real_model(images, **more)

        def open(self, image):
            assert self.go_on.wait(60)
            return real_model.open(image)

    held = Held()
    address, server = serve(served=held)
    images = [picture(number) for number in range(4)]
    *_, responses = ask_while_held(
        address, server, held, [encode(image, **question) for image in images])
    for image, response in zip(images, responses, strict=True):
        own = real_model(image, thinking=False, threshold=0, **question).to_dict()
        answer = response.json()
        assert answer['image_size'] == own['size'] and answer['task'] == own['task']
        assert answer['found'] == own['found']
        expected = sorted(own['objects'], key=lambda one: -(one['score'] or 0))
        assert [one['label'] for one in answer['objects']] == [one['label'] for one in expected]
        for one, other in zip(answer['objects'], expected, strict=True):
            assert one['score'] == pytest.approx(other['score'], abs=2e-4)
            assert one['box'] == pytest.approx(other['bbox'], abs=0.1)
            assert (one['mask'] is None) == ('segmentation' not in other)
    assert held.batches
