# Copyright (c) mvp_mm authors. All rights reserved.
"""A model of the shape of ``MVP`` whose answers tell which image and question they belong to."""
from __future__ import annotations

import io
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from mvp_mm.utils.masks import encode_masks


@dataclass
class FakeAnswer:
    """Has what the server uses of ``mvp_mm``'s answers."""

    content: dict[str, Any]
    image: Image.Image

    def to_dict(self):
        return self.content

    def plot(self):
        return self.image


class FakeModel:
    """Finds one object per word, whose box is the image's first pixel.

    Args:
        seconds: How long a forward pass takes.
    """

    tasks = ('detection', 'panoptic', 'referring_segmentation', 'caption')

    def __init__(self, seconds=0.):
        self.seconds = seconds
        self.batches, self.encoded = [], 0
        self.opened = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(self, images, *, batch_size=1, progress=True, **question):
        assert not progress and batch_size == len(images)
        self.encoded += len(images)
        return self._answer(images, question)

    def open(self, image):
        self.encoded += 1
        return FakePicture(self, image)

    def _answer(self, images, question):
        self.opened.set()
        assert self.go_on.wait(30)
        self.batches.append(len(images))
        time.sleep(self.seconds)
        if question.get('text') == 'refuse me':
            raise ValueError('the sentence is refused\nin two lines')
        if question.get('text') == 'break':
            raise RuntimeError('secret /internal/path')
        # A dark first pixel is poison to whole batches and to itself.
        if any(np.asarray(image)[0, 0].tolist() == [0, 0, 0] for image in images):
            raise RuntimeError('poison')
        return [self._one(image, **question) for image in images]

    def _one(self, image, words=None, text=None, stuff=None, task=None, thinking=None,
             threshold=None):
        pixels = np.asarray(image)
        height, width = pixels.shape[:2]
        x, y, _ = pixels[0, 0].tolist()
        labels = list(words) if words else [text] if text else []
        objects = []
        for number, (label, score) in enumerate(
                zip(labels, np.linspace(0.5, 0.9, len(labels)).tolist(), strict=True)):
            mask = np.zeros((height, width), dtype=bool)
            mask[height // 4:height * 3 // 4, width // 4 + number * 4:width * 3 // 4] = True
            item = dict(label=label, score=round(score, 4), bbox=[x, y, x + 1, y + 1])
            if task == 'panoptic':
                mask[:] = False
                mask[number::len(labels)] = True
                item.update(id=number + 1, isthing=label not in (stuff or ()))
            elif task == 'semantic':
                item.update(id=number + 1, isthing=True, score=None)
            if task != 'detection':
                rle, = encode_masks(mask[None])
                item['segmentation'] = dict(rle, counts=rle['counts'].decode())
            objects.append(item)
        return FakeAnswer(dict(
            image='image_0', size=[height, width], task=task or 'instance', question={},
            reason='' if task else 'no word is known as stuff', found=bool(labels), seconds={},
            caption=f'{width}x{height} {text} {thinking} {threshold}', objects=objects), image)


class FakePicture:
    """An opened image."""

    def __init__(self, model, image):
        self.model, self.image = model, image

    def ask(self, **question):
        answer, = self.model._answer([self.image], question)
        return answer


def image_bytes(color=(10, 20, 30), size=(64, 48), kind='PNG', **options):
    """An image file of one colour."""
    file = io.BytesIO()
    Image.new('RGB', size, tuple(color)).save(file, kind, **options)
    return file.getvalue()
