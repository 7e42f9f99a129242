# Copyright (c) mvp_mm authors. All rights reserved.
"""Writes a whole synthetic world to disk, image by image, on one core or several."""
from __future__ import annotations

import json
import multiprocessing
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from mvp_mm.synthetic.layouts import Record, annotate, file_name, write_annotations, write_image
from mvp_mm.synthetic.render import render_scene
from mvp_mm.synthetic.scene import Scene, sample_scene
from mvp_mm.synthetic.vocabulary import HARD_KINDS, KINDS, MAX_IMAGES, SPLITS

JPEG_OPTIONS = (cv2.IMWRITE_JPEG_QUALITY, 95)
PARTS = ('images', 'annotations', 'refer', 'captions')
# Changes whenever the same seed gives another world, so that an old one is not taken for it.
FORMAT_VERSION = 1


@dataclass(frozen=True)
class WorldParameters:
    """What decides every byte of a world.

    Attributes:
        seed: Seed of everything.
        train, val: Number of images of the splits.
        version: Version of the generator.
    """

    seed: int = 0
    train: int = 6000
    val: int = 300
    version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        for split in SPLITS:
            if not 1 <= getattr(self, split) <= MAX_IMAGES:
                raise ValueError(f'{split}={getattr(self, split)} is not in [1, {MAX_IMAGES}]')
        if self.seed < 0:
            raise ValueError(f'seed={self.seed} is negative')


def scene_of_image(seed: int, split: str, index: int) -> tuple[Scene, Random]:
    """Draw the scene of an image.

    Returns:
        The scene, and the random numbers that its annotations draw from next.
    """
    rng = Random(f'{seed}/{split}/{index}')
    return sample_scene(rng), rng


def _make_image(job: tuple[str, int, str, int]) -> Record:
    """Make one image with its PNG; returns the rest of its annotations."""
    out, seed, split, index = job
    scene, rng = scene_of_image(seed, split, index)
    pixels = render_scene(scene, np.random.default_rng((seed, SPLITS.index(split), index)))
    record, png = annotate(scene, split, index, rng)
    name = file_name(record['image']['id'])
    write_image(Path(out, 'images', split, name), pixels, JPEG_OPTIONS)
    write_image(Path(out, 'annotations', f'panoptic_{split}', name.replace('.jpg', '.png')), png)
    return record


@contextmanager
def _single_threaded() -> Iterator[None]:
    """OpenCV without threads: a forked worker must not inherit a pool whose threads are gone."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _make_split(out: Path, seed: int, split: str, count: int, workers: int) -> list[Record]:
    jobs = [(str(out), seed, split, index) for index in range(count)]
    progress: dict[str, Any] = {'total': count, 'desc': split, 'unit': 'img', 'mininterval': 1.0}
    if workers <= 1:
        return list(tqdm(map(_make_image, jobs), **progress))
    with multiprocessing.Pool(workers) as pool:
        return list(tqdm(pool.imap(_make_image, jobs, chunksize=16), **progress))


def _check_disjoint(records: dict[str, list[Record]]) -> None:
    """No two images of the world may show the same scene."""
    seen: dict[str, int] = {}
    for split in SPLITS:
        for record in records[split]:
            number = record['image']['id']
            other = seen.setdefault(record['signature'], number)
            if other != number:
                raise RuntimeError(f'images {other} and {number} show the same scene; '
                                   'take another seed')


def _statistics(records: list[Record]) -> dict[str, Any]:
    """Counts of one split."""
    result: dict[str, Any] = {'images': len(records),
                              'things': sum(len(r['instances']) for r in records)}
    for name, key in (('refcoco', 'refs'), ('grefcoco', 'groups')):
        refs = [ref for record in records for ref in record[key]]
        kinds = Counter(s['kind'] for ref in refs for s in ref['sentences'])
        total = sum(kinds.values())
        hard = sum(kinds[kind] for kind in HARD_KINDS)
        result[name] = {'refs': len(refs), 'sentences': total,
                        'kinds': {kind: kinds[kind] for kind in KINDS},
                        'ordinal_and_relation': round(hard / max(total, 1), 4)}
    targets = Counter('none' if ref['no_target'] else 'one' if len(ref['ann_id']) == 1 else 'many'
                      for record in records for ref in record['groups'])
    result['grefcoco']['targets'] = {name: targets[name] for name in ('none', 'one', 'many')}
    result['planted_captions'] = dict(sorted(Counter(
        fault for r in records for fault in r['planted'].values()).items()))
    return result


def _prepare(out: Path, parameters: WorldParameters, overwrite: bool) -> dict[str, Any] | None:
    """Clear the way for a new world.

    Returns:
        The finished world that is there already, None where one has to be made.

    Raises:
        FileExistsError: ``out`` holds something else.
    """
    note = out / 'world.json'
    if note.is_file():
        world = json.loads(note.read_text())
        if not overwrite and world.get('parameters') != asdict(parameters):
            raise FileExistsError(
                f'{note} describes another world: it has {world.get("parameters")}, asked for '
                f'{asdict(parameters)}; pass --overwrite to replace it')
        if not overwrite and world.get('complete'):
            return world
        for part in PARTS:
            shutil.rmtree(out / part, ignore_errors=True)
    else:
        there = [part for part in PARTS if (out / part).exists()]
        if there:
            raise FileExistsError(f'{out} holds {there} but no world.json: not a synthetic '
                                  'world, so nothing there is replaced')
    for split in SPLITS:
        (out / 'images' / split).mkdir(parents=True)
        (out / 'annotations' / f'panoptic_{split}').mkdir(parents=True)
    # Written first, so that a run that was cut short is known for what it is.
    note.write_text(json.dumps({'parameters': asdict(parameters), 'complete': False}))
    return None


def make_world(out: str | Path, parameters: WorldParameters, workers: int = 1,
               overwrite: bool = False) -> dict[str, Any]:
    """Make a world, unless the same one is there already.

    Args:
        out: Folder of the world.
        parameters: What to make.
        workers: Processes; the result does not depend on them.
        overwrite: Replace a world that has other parameters.

    Returns:
        The content of ``world.json``: parameters and statistics per split.
    """
    out = Path(out)
    world = _prepare(out, parameters, overwrite)
    if world is not None:
        return world
    with _single_threaded():
        records = {split: _make_split(out, parameters.seed, split, getattr(parameters, split),
                                      workers) for split in SPLITS}
    _check_disjoint(records)
    write_annotations(out, records)
    world = {'parameters': asdict(parameters), 'complete': True,
             'statistics': {split: _statistics(records[split]) for split in SPLITS}}
    (out / 'world.json').write_text(json.dumps(world, indent=1))
    return world
