# Copyright (c) mvp_mm authors. All rights reserved.
"""ReasonSeg: sentences that ask for reasoning, one JSON file beside each image (LISA)."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from pycocotools import mask as coco_mask

from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.registry import DATASETS
from mvp_mm.utils.faults import Faults
from mvp_mm.utils.images import read_size
from mvp_mm.utils.listings import SuffixListing
from mvp_mm.utils.records import FLAG, LIST, POINT, STRING, TEXT, RecordFormat, list_of
from mvp_mm.utils.texts import named

_TARGET, _IGNORED = 1, 255
FILE = RecordFormat('the file', ident='', text=list_of(TEXT), is_sentence=FLAG, shapes=LIST)
SHAPE = RecordFormat('shape', ident='', label=STRING, points=list_of(POINT))


@DATASETS.register_module()
class ReasonSegDataset(PerceptionDataset):
    """One item is one image with one target, the union of its shapes labelled ``target``.

    Shapes are drawn from the largest to the smallest, so that a smaller one covers a larger one;
    what is then labelled ``ignore`` counts for nothing in evaluation (``gt_eval['ignored']``).
    Evaluation asks the first text of an image, as LISA does, training all of them. Long texts
    (``is_sentence``) are of the kind ``long``, others ``short``.

    Args:
        ann_file: Not used.
        **kwargs: See :class:`PerceptionDataset`; ``data_prefix['img']`` is the folder of a split.

    Raises:
        ValueError: If a file is broken or has no target.
    """

    def __init__(self, ann_file: str = '', **kwargs: Any) -> None:
        super().__init__('', **kwargs)

    def _join_prefix(self) -> None:
        BaseDataset._join_prefix(self)
        if not Path(self.data_prefix.get('img', '')).is_dir():
            raise FileNotFoundError(f'Folder {self.data_prefix.get("img")} does not exist')

    checks_items_itself = True

    def load_items(self) -> list[dict[str, Any]]:
        """See :meth:`PerceptionDataset.load_items`."""
        self.set_classes((), ())
        folder = self.data_prefix['img']
        files, _ = SuffixListing(folder, '.jpg').all()
        annotations, passed = SuffixListing(folder, '.json').all()
        faults = self.faults_of(folder)
        for name in files.keys() ^ annotations.keys():
            faults('missing file', f'image {named(name)}', 'lacks its .jpg or its .json')
        passed -= {'without the suffix .json': len(files)}
        if passed.total():
            faults.note('files in the folder of images passed over', passed.total())
            print_log(f'{folder}: {passed.total()} files passed over', logger='current')
        items = [self._item(name, file, annotations[name]) for name, file in files.items()
                 if name in annotations]
        if not items:
            raise ValueError(f'{folder}: no image *.jpg with its .json')
        faults.count('images', len(items))
        return [item for item in items if item]

    def _item(self, name: str, file: str, annotation: str) -> dict[str, Any] | None:
        path = Path(self.data_prefix['img']) / annotation
        faults = self.faults_of(str(path))
        content = _read(path, faults)
        if content is None or not FILE.accepts(content, faults):
            return None
        if not content['text']:
            faults('broken text', 'the file', 'has no text')
            return None
        shapes = [(shape['label'].strip().lower(), shape['points'])
                  for place, shape in enumerate(content['shapes'])
                  if SHAPE.accepts(shape, faults, place)]
        shapes = [(label, points) for label, points in shapes if label in ('target', 'ignore')
                  and points]
        if not any(label == 'target' for label, _ in shapes):
            faults('no target', 'the file', 'has no shape labelled target')
            return None
        texts = content['text'][:1] if self.test_mode else content['text']
        kind = 'long' if content['is_sentence'] else 'short'
        return dict(
            img_path=self.image_path(file), img_id=name, file_name=file, shapes=shapes,
            json_path=str(path), boxes=_box_around(shapes),
            referrals=[(text, [0], name, f'{name}.{k}', kind) for k, text in enumerate(texts)])

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """See :meth:`PerceptionDataset.get_data_info`; draws the masks.

        Raises:
            OSError: If the image cannot be read.
            ValueError: If no pixel belongs to the target.
        """
        item = super().get_data_info(idx)
        height, width = read_size(item['img_path'], item['apply_exif'])
        drawn = draw_shapes(item.pop('shapes'), height, width)
        if not target_of(drawn).any():
            raise ValueError(f'{item["json_path"]}: no pixel of image {item["img_id"]} belongs to '
                             'the target')
        rles = [coco_mask.encode(np.asfortranarray(drawn == value, dtype=np.uint8))
                for value in (_TARGET, _IGNORED)]
        x, y, w, h = coco_mask.toBbox(rles[0])
        item.update(boxes=np.array([[x, y, x + w, y + h]], dtype=np.float32),
                    segmentations=rles[:1], ignored=rles[1])
        return item


def _box_around(shapes: list[tuple[str, list]]) -> np.ndarray:
    """(1, 4) box around the points of the target, before smaller shapes cover parts of it."""
    points = np.array([point for label, points in shapes if label == 'target' for point in points],
                      dtype=np.float32)
    return np.concatenate([points.min(0), points.max(0)])[None]


def draw_shapes(shapes: list[tuple[str, list]], height: int, width: int) -> np.ndarray:
    """Draw polygons over one another, the smallest on top.

    Args:
        shapes: Label, ``target`` or ``ignore``, and points of each.
        height: Height of the image in pixels.
        width: Width of the image in pixels.

    Returns:
        (h, w) uint8: 1 the target, 255 ignored, 0 the rest.
    """
    masks = []
    for label, points in shapes:
        # Outline and inside of the truncated points, as the published evaluation draws them.
        corners = np.array(points, dtype=np.float64).astype(np.int32)[None]
        mask = np.zeros((height, width), dtype=np.uint8)
        cv2.polylines(mask, corners, isClosed=True, color=1, thickness=1)
        cv2.fillPoly(mask, corners, 1)
        masks.append((label, mask.view(bool)))
    drawn = np.zeros((height, width), dtype=np.uint8)
    for label, mask in sorted(masks, key=lambda pair: -int(pair[1].sum())):
        drawn[mask] = _TARGET if label == 'target' else _IGNORED
    return drawn


def target_of(drawn: np.ndarray) -> np.ndarray:
    """The target's pixels, (h, w) bool, of what :func:`draw_shapes` has drawn."""
    return drawn == _TARGET


def _read(path: Path, faults: Faults) -> Any:
    """The content of a file, which may be in Windows' encoding; None where it is no JSON."""
    data = path.read_bytes()
    try:
        try:
            return json.loads(data)
        except UnicodeDecodeError:
            return json.loads(data.decode('cp1252'))
    except (ValueError, RecursionError) as error:
        faults('broken file', 'the file', f'is not valid JSON: {error}')
        return None
