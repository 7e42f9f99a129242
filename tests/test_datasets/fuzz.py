# Copyright (c) mvp_mm authors. All rights reserved.
"""Damages annotation files at random and looks at what becomes of them.

    python -m tests.test_datasets.fuzz --seed 0 --number 500

Every damaged file must end in a right sample, or in an error of a known kind whose message names
the file and the record; the check must find a fault wherever reading fails. What is damaged is
printed before it is tried, so that the last line names what has ended the process.
"""
from __future__ import annotations

import argparse
import json
import pickle
import random
import signal
import tempfile
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
from mmengine.logging import MMLogger
from pycocotools import mask as coco_mask

from mvp_mm.datasets.checks import check_dataset
from mvp_mm.datasets.readers.tar_images import write_tar_index
from mvp_mm.registry import DATASETS, TRANSFORMS
from tests.fuzzing import attempt, change_bytes, change_value, limit_memory, report
from tests.test_datasets.miniature import entries, moved, write_all
from tests.test_datasets.small_data import pipeline

# One entry per reader and format, its annotation file first, then what it names.
TARGETS = {
    'coco_instance_val': (), 'ade20k_instance_val': (), 'objects365_val': (), 'lvis_val': (),
    'coco_panoptic_val': ('annotations/panoptic_val2017/000000000003.png',
                           'val2017/000000000003.jpg'),
    'cityscapes_panoptic_val': (), 'coco_caption_val': (), 'flickr30k_val': (), 'cc3m': (),
    'refcoco_val': ('refcoco/instances.json',),
    'refcoco_val_joined': (),
    'grefcoco_val': ('grefcoco/instances.json',),
    'odvg_detection': ('annotations/o365v2_label_map.json',), 'odvg_grounding': (),
    'cc3m_tars': ('00000.tar',), 'refcoco_m_val': (),
    'ref_adv_s': (), 'reason_seg_val': ('val/7_val.json',),
    'odinw_aquarium': (),
    'pascal_voc_val': ('VOC2012/SegmentationClass/2007_000033.png',)}
def damage(rng: random.Random, path: Path, data: bytes) -> tuple[bytes, list]:
    """A damaged file, and where its content was changed, if its content it was."""
    plain = path.suffix in ('.png', '.jpg', '.tar', '.txt')
    if plain or rng.random() < 0.15:
        return change_bytes(rng, data), []
    if path.suffix == '.p':
        content = pickle.loads(data)
        where = change_value(rng, content)
        return pickle.dumps(content), where
    if path.suffix == '.jsonl' or path.name.endswith('_vg.json'):
        lines = [json.loads(line) for line in data.splitlines()]
        where = change_value(rng, lines)
        return '\n'.join(map(json.dumps, lines)).encode(), where
    content = json.loads(data)
    where = change_value(rng, content)
    return json.dumps(content).encode(), where


class World:
    """The miniature trees and what is read of each before anything is damaged."""

    def __init__(self, root: Path) -> None:
        write_all(root)
        tars = root / 'cc3m_tars'
        write_tar_index(sorted(tars.glob('*.tar')), tars / 'index.jsonl')
        # One of its boxes is planted outside the image.
        odvg = root / 'objects365/annotations/o365v2_train_odvg.jsonl'
        line = json.loads(odvg.read_text())
        line['detection']['instances'].pop()
        odvg.write_text(json.dumps(line))
        self.root, self.entries = root, entries()
        self.files = {name: self._files(name, more) for name, more in TARGETS.items()}
        steps = {training: [TRANSFORMS.build(step) for step in pipeline(root, training)]
                 for training in (False, True)}
        self.steps = {name: {training: self._loaders(name, built)
                             for training, built in steps.items()} for name in TARGETS}
        self.sound = {name: self.objects(name, self.read(name, training=False))
                      for name in TARGETS}

    def config(self, name: str, training: bool) -> dict:
        cfg = moved(self.entries[name], self.root)
        cfg.pop('caption_store', None)
        response = {} if name in ('cc3m', 'cc3m_tars', 'coco_caption_val') else dict(
            response='none')
        return dict(cfg, tasks=[dict(task, **response) for task in cfg['tasks']],
                    pipeline=self.steps[name][training], test_mode=not training, max_refetch=3,
                    serialize_data=False)

    def _files(self, name: str, more: tuple[str, ...]) -> list[Path]:
        cfg = moved(self.entries[name], self.root)
        folder = Path(cfg['data_root'])
        if name in ('cc3m_tars', 'pascal_voc_val'):
            more = tuple(part.removeprefix('VOC2012/') for part in more)
        return [folder / part for part in (cfg.get('ann_file'), *more) if part]

    @staticmethod
    def _loaders(name: str, steps: list) -> list:
        kinds = {'cc3m_tars': ('LoadImage', 'LoadImageFromTar'),
                 'pascal_voc_val': ('LoadPerceptionAnnotations', 'LoadSemanticMap')}
        plain, own = kinds.get(name, ('', ''))
        return [TRANSFORMS.build(dict(type=own)) if type(s).__name__ == plain else s for s in steps]

    def read(self, name: str, training: bool) -> list:
        """All samples."""
        dataset = DATASETS.build(self.config(name, training))
        return [sample for k in range(len(dataset)) for sample in dataset[k]['data_samples']]

    @staticmethod
    def objects(name: str, samples: list) -> Counter:
        """What was read of each object; raises where that cannot be."""
        found: Counter = Counter()
        for sample in samples:
            truth = sample.gt_eval
            boxes = np.asarray(truth['bboxes'])
            assert np.isfinite(boxes).all() and (boxes[:, 2:] > boxes[:, :2]).all()
            phrases = sample.instruction.phrases
            for k, box in enumerate(boxes):
                area = -1
                if 'masks' in truth:
                    assert tuple(truth['masks'][k]['size']) == tuple(sample.ori_shape)
                    area = int(coco_mask.area(truth['masks'][k]))
                found[str(sample.img_id), phrases[int(truth['labels'][k])],
                      tuple(box.round(3).tolist()), area] += 1
        return found


def try_one(world: World, rng: random.Random, number: int) -> list[tuple[str, str, str]]:
    """Damage one file; gives the outcomes of reading and of checking."""
    name = rng.choice(list(TARGETS))
    path = rng.choice(world.files[name])
    sound = path.read_bytes()
    damaged, where = damage(rng, path, sound)
    training = rng.random() < 0.3
    title = f'{number} {name} {path.name} {where} training={training}'
    print(title, flush=True)
    names = {file.name for file in world.files[name]} | {'does not exist', '.jpg', '.png', '.tar'}
    path.write_bytes(damaged)
    signal.alarm(20)
    try:
        outcome, samples = attempt(lambda: world.read(name, training), names)
        if outcome == 'right' and not training:
            outcome = compare(world, name, where, samples)
        checked, found = attempt(lambda: check_dataset(dict(
            world.config(name, training), tasks=[], pipeline=[])), names)
        # What is too long for a tokenizer is no fault of the file.
        fails = outcome == 'named' and not training and 'max_length' not in samples
        if checked == 'right' and fails and not found.faults:
            checked = 'nothing is found where reading fails'
    finally:
        signal.alarm(0)
        path.write_bytes(sound)
    return [(title, 'read', outcome), (title, 'check', checked)]


def compare(world: World, name: str, where: list, samples: list) -> str:
    """Whether every object but the damaged one is as it was."""
    try:
        found = world.objects(name, samples)
    except AssertionError:
        return f'impossible objects: {traceback.format_exc()[-300:]}'
    lost = world.sound[name] - found
    alone = where[:1] == ['annotations'] and len(where) > 2 and where[2] != 'segments_info'
    if alone and 'panoptic' not in name and lost.total() > 1:
        return f'changed other objects: {lost} became {found - world.sound[name]}'
    return 'right'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--number', type=int, default=500)
    args = parser.parse_args()
    MMLogger.get_current_instance().setLevel('CRITICAL')
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        limit_memory(2 << 30)
        rng = random.Random(args.seed)
        report(outcome for number in range(args.number)
               for outcome in try_one(world, rng, number))


if __name__ == '__main__':
    main()
