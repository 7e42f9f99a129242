# Copyright (c) mvp_mm authors. All rights reserved.
"""Hand-made annotation files and a byte-level tokenizer for tests."""
from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tokenizers import pre_tokenizers

HEIGHT, WIDTH = 20, 30
CATEGORIES = [dict(id=7, name='cat', isthing=1), dict(id=3, name='dog', isthing=1),
              dict(id=90, name='sky-other-merged', isthing=0)]
# Boxes in x, y, w, h; the third is a crowd of dogs, the fourth the sky.
BOXES = [[2, 12, 6, 5], [10, 12, 8, 6], [20, 12, 8, 8], [0, 0, 30, 10]]
CATEGORY_IDS = [7, 3, 3, 90]
SEGMENT_IDS = [70001, 5, 300, 2]
SAMPLE = Path(os.environ.get(
    'MVP_MM_SAMPLE_DATA', Path(__file__).resolve().parents[2].parent / 'shared' / 'data'))

needs_sample = pytest.mark.skipif(
    not SAMPLE.is_dir(), reason='the sample of real data is absent (MVP_MM_SAMPLE_DATA)')


def write_json(path: Path, content: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return str(path)


def write_images(root: Path, names: tuple[str, ...] = ('a.jpg', 'b.jpg')) -> None:
    (root / 'img').mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for name in names:
        cv2.imwrite(str(root / 'img' / name), image)


def images() -> list[dict]:
    """Image 1 has objects, image 2 none."""
    return [dict(id=1, file_name='a.jpg', height=HEIGHT, width=WIDTH, caption='A cat, a dog.'),
            dict(id=2, file_name='b.jpg', height=HEIGHT, width=WIDTH, caption='Nothing here.')]


def rectangle(box: list[int]) -> list[list[int]]:
    x, y, w, h = box
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def instances() -> dict:
    annotations = [
        dict(id=10 + k, image_id=1, category_id=CATEGORY_IDS[k], bbox=BOXES[k],
             iscrowd=int(k == 2), segmentation=rectangle(BOXES[k])) for k in range(3)
    ]
    return dict(images=images(), annotations=annotations, categories=CATEGORIES[:2])


def write_panoptic(root: Path) -> dict:
    """Write the segment maps; return the JSON's content."""
    (root / 'seg').mkdir(exist_ok=True)
    ids = np.zeros((HEIGHT, WIDTH), dtype=np.uint32)
    for (x, y, w, h), segment in zip(BOXES, SEGMENT_IDS, strict=True):
        ids[y:y + h, x:x + w] = segment
    channels = np.stack([ids >> 16, ids >> 8 & 255, ids & 255], axis=-1).astype(np.uint8)
    cv2.imwrite(str(root / 'seg' / 'a.png'), channels)
    cv2.imwrite(str(root / 'seg' / 'b.png'), np.zeros_like(channels))
    segments = [dict(id=SEGMENT_IDS[k], category_id=CATEGORY_IDS[k], bbox=BOXES[k],
                     iscrowd=int(k == 2)) for k in range(4)]
    return dict(
        images=images(), categories=CATEGORIES,
        annotations=[dict(image_id=1, file_name='a.png', segments_info=segments),
                     dict(image_id=2, file_name='b.png', segments_info=[])])


def references() -> list[dict]:
    sentence = dict(sent='the cat', sent_id=100, kind='attribute')
    other = dict(sent='animal on the left', sent_id=101)
    return [dict(ref_id=1, ann_id=10, image_id=1, split='train', sentences=[sentence, other]),
            dict(ref_id=2, ann_id=11, image_id=1, split='train',
                 sentences=[dict(sent='the dog', sent_id=102)]),
            dict(ref_id=3, ann_id=12, image_id=1, split='val',
                 sentences=[dict(sent='all the dogs', sent_id=103)])]


def config(root: Path, kind: str, **changes: Any) -> dict:
    """Config of a dataset over the hand-made files, which are written under ``root``."""
    write_images(root)
    cfg = dict(data_root=str(root), data_prefix=dict(img='img'), type=kind)
    if kind == 'CocoPanopticDataset':
        write_json(root / 'ann.json', write_panoptic(root))
        cfg.update(ann_file='ann.json', data_prefix=dict(img='img', seg='seg'))
    elif kind in ('CocoInstanceDataset', 'BoxDetectionDataset'):
        write_json(root / 'ann.json', instances())
        cfg.update(ann_file='ann.json')
    elif kind == 'RefCocoDataset':
        write_json(root / 'instances.json', instances())
        (root / 'refs(unc).p').write_bytes(pickle.dumps(references()))
        cfg.update(ann_file='refs(unc).p', instances_file='instances.json', split='train')
    elif kind == 'GRefCocoDataset':
        write_json(root / 'instances.json', instances())
        refs = references()[:2]
        refs[0]['ann_id'], refs[1]['ann_id'] = [10, 11], [-1]
        write_json(root / 'grefs(unc).json', refs)
        cfg.update(ann_file='grefs(unc).json', instances_file='instances.json', split='train')
    elif kind == 'GroundingDataset':
        content = instances()
        for record, spans in zip(content['annotations'], ([[0, 5]], [[7, 12]], [[7, 12]]),
                                 strict=True):
            record.update(tokens_positive=spans, iscrowd=0)
        write_json(root / 'ann.json', content)
        cfg.update(ann_file='ann.json')
    else:
        chat = [dict(id='1', image='a.jpg', conversations=[
            {'from': 'human', 'value': '<image>\nDescribe.'},
            {'from': 'gpt', 'value': 'A cat and a dog.'}])]
        write_json(root / 'chat.json', chat)
        cfg.update(ann_file='chat.json')
    return {**cfg, **changes}


def tokenizer_config(root: Path, **changes: Any) -> dict:
    """A GPT-2 style folder whose tokens are single bytes."""
    folder = root / 'bytes'
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: k for k, token in enumerate([*alphabet, '<|endoftext|>'])}
    write_json(folder / 'vocab.json', vocabulary)
    (folder / 'merges.txt').write_text('#version: 0.2\n')
    return dict(dict(type='InstructionTokenizer', path=str(folder), num_visual_tokens=4),
                **changes)


def pipeline(root: Path, training: bool, size: int = 64) -> list[dict]:
    return [
        dict(type='BuildInstructions', tokenizer=tokenizer_config(root), training=training),
        dict(type='LoadImage'), dict(type='LoadPerceptionAnnotations'),
        dict(type='ResizeToCanvas', scale=(size, size)),
        dict(type='PadToCanvas', size=(size, size)),
        dict(type='PackPerceptionInputs', with_eval=not training)
    ]


def make_config(root: Path, kind: str = 'CocoInstanceDataset', task: str = 'InstanceTask',
                training: bool = False, **changes: Any) -> dict:
    """Config with a task and a pipeline."""
    return config(root, kind, tasks=[dict(type=task, response='none')],
                  pipeline=pipeline(root, training), test_mode=not training, **changes)


def logged(monkeypatch: pytest.MonkeyPatch, module: Any) -> list[str]:
    """What a module logs from now on."""
    messages = []
    monkeypatch.setattr(module, 'print_log', lambda message, **kwargs: messages.append(message))
    return messages
