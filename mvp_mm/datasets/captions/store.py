# Copyright (c) mvp_mm authors. All rights reserved.
"""Captions of images, kept beside any dataset."""
from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from mmengine.logging import print_log

from mvp_mm.datasets.captions.refine import CaptionRefiner
from mvp_mm.datasets.files import load_json

_COCO_2014 = re.compile(r'COCO_(?:train|val|test)2014_(?=\d{12}\.)')


def caption_key(file_name: str) -> str:
    """The store's name of an image: no folders; COCO's 2014 and 2017 names of one image agree."""
    return _COCO_2014.sub('', PurePosixPath(file_name).name)


class CaptionStore:
    """Captions by image file name, cleaned when the store is opened.

    Two layouts are read: ``{"captioners": [...], "captions": {file_name: [text, ...]}}``, and
    COCO's captions JSON (``images`` and ``annotations``).

    Args:
        path: The JSON file.
        refiner: Cleans a caption; an empty result drops it.

    Raises:
        ValueError: If the file has neither layout or a record is broken.
    """

    def __init__(self, path: str, refiner: CaptionRefiner | None = None) -> None:
        self.path = str(path)
        refiner = refiner or CaptionRefiner()
        content = load_json(path)
        if 'captions' in content:
            raw = content['captions']
            self.captioners: list[str] = list(content.get('captioners', []))
        elif 'annotations' in content and 'images' in content:
            raw = _from_coco(content, self.path)
            self.captioners = ['coco']
        else:
            raise ValueError(f'{path}: neither a caption store ("captions") nor a COCO captions '
                             f'file ("images", "annotations"), keys are {sorted(content)}')
        self._captions: dict[str, list[str]] = {}
        total = dropped = changed = 0
        for file_name, texts in raw.items():
            if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
                raise ValueError(f'{path}: captions of {file_name} must be a list of strings')
            cleaned = [refiner(text) for text in texts]
            total += len(texts)
            dropped += cleaned.count('')
            changed += sum(bool(new) and new != ' '.join(old.split())
                           for old, new in zip(texts, cleaned, strict=True))
            key = caption_key(file_name)
            if key in self._captions:
                raise ValueError(f'{path}: two images are named {key}, one of them {file_name}')
            self._captions[key] = [text for text in cleaned if text]
        print_log(
            f'{Path(self.path).name}: {dropped} of {total} captions dropped, {changed} shortened',
            logger='current')

    def __len__(self) -> int:
        return len(self._captions)

    def get(self, file_name: str) -> list[str]:
        """Captions of an image, none where the store does not know it."""
        return self._captions.get(caption_key(file_name), [])


def _from_coco(content: dict[str, Any], path: str) -> dict[str, list[str]]:
    names = {image['id']: image['file_name'] for image in content['images']}
    captions: dict[str, list[str]] = {}
    for annotation in content['annotations']:
        image_id = annotation['image_id']
        if image_id not in names:
            raise ValueError(f'{path}: caption {annotation.get("id")} names unknown image '
                             f'{image_id}')
        captions.setdefault(names[image_id], []).append(annotation['caption'])
    return captions
