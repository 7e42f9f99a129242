# Copyright (c) mvp_mm authors. All rights reserved.
"""Real images labelled in every format: the same items, from which a model learns."""
from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mvp_mm.cli.command import run
from mvp_mm.cli.main import cli
from mvp_mm.engine import load_config
from mvp_mm.registry import DATASETS
from mvp_mm.rehearsal.step import forget_runs
from mvp_mm.utils.files import load_plain_pickle
from tests.test_datasets.small_data import SAMPLE, needs_sample
from tests.test_own_data.label_files import WRITERS, Labels

pytestmark = needs_sample
# Two giraffes, a zebra, a dog.
IMAGES = ('000000000025.jpg', '000000000034.jpg', '000000000042.jpg')
MASKS = ('coco', 'yolo', 'labelme', 'cvat')


@pytest.fixture(scope='module')
def labels():
    """COCO's own annotations of the images."""
    truth = json.loads((SAMPLE / 'coco/annotations/instances_train2017.json').read_text())
    names = {record['id']: record['name'] for record in truth['categories']}
    images = {}
    for record in truth['images']:
        if record['file_name'] in IMAGES:
            images[record['file_name']] = record['height'], record['width'], [
                (names[found['category_id']],
                 list(zip(found['segmentation'][0][::2], found['segmentation'][0][1::2],
                          strict=True)))
                for found in truth['annotations'] if found['image_id'] == record['id']]

    def save(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in images:
            shutil.copy(SAMPLE / 'coco/train2017' / name, folder / name)

    assert len(images) == 3
    return Labels(['dog', 'giraffe', 'zebra'], images, save)


@pytest.fixture
def prepare(tmp_path, monkeypatch):
    """Prepare labels in an empty folder; the config."""
    forget_runs()
    monkeypatch.chdir(tmp_path)
    # mmengine lays out a config's text four times, which takes longer than the training.
    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True))

    def call(source, *arguments):
        assert run(cli, 'mvp-mm', ['data', str(source), '--out', 'mine', *arguments]) == 0
        return tmp_path / 'mine/config.py'

    yield call
    forget_runs()


def items_of(config: Path):
    """Per image: names, boxes and masks or expressions as the dataset of training gives them."""
    loaded = load_config(config).train_dataloader.dataset
    loaded.update(pipeline=[], index_dir=str(config.parent / 'indices'))
    dataset = DATASETS.build(loaded)
    dataset.full_init()
    return {Path(item['img_path']).name: item
            for item in (dataset.get_data_info(k) for k in range(len(dataset)))}


@pytest.mark.parametrize('name', WRITERS)
def test_each_format_gives_the_items_of_coco(name, prepare, labels, tmp_path):
    found = items_of(prepare(WRITERS[name](tmp_path / 'labels', labels), '--val-share', '0'))
    assert set(found) == set(IMAGES)
    for image, (_, _, objects) in labels.images.items():
        item = found[image]
        truth = np.array([[*np.min(polygon, 0), *np.max(polygon, 0)] for _, polygon in objects])
        assert np.allclose(item['boxes'], truth, atol=1e-2)
        told = item['annotation']
        if name == 'csv':
            assert sorted({r.sentence for r in told.referrals}) == sorted(
                sentence for label in {label for label, _ in objects}
                for sentence in (f'the {label}', f'a {label}, here'))
            continue
        assert [told.vocabulary[k] for k in told.labels] == [label for label, _ in objects]
        if name in MASKS:
            for mask, (_, polygon) in zip(item['segmentations'], objects, strict=True):
                assert np.allclose(np.reshape(mask[0], (-1, 2)), polygon, atol=1e-2)


def write_refcoco(folder: Path) -> Path:
    """Write real referring expressions and their images as a CSV."""
    source = SAMPLE / 'refer/refcoco'
    truth = json.loads((source / 'instances.json').read_text())
    boxes = {found['id']: found['bbox'] for found in truth['annotations']}
    names = {record['id']: record['file_name'] for record in truth['images']}
    folder.mkdir()
    with open(folder / 'expressions.csv', 'w', newline='') as file:
        rows = csv.writer(file)
        rows.writerow(['image', 'expression', 'x', 'y', 'w', 'h'])
        for reference in load_plain_pickle(source / 'refs(unc).p'):
            rows.writerows([names[reference['image_id']], sentence['sent'],
                            *boxes[reference['ann_id']]] for sentence in reference['sentences'])
    for name in names.values():
        if (SAMPLE / 'refer/train2014' / name).is_file():
            shutil.copy(SAMPLE / 'refer/train2014' / name, folder / name)
    return folder / 'expressions.csv'


@pytest.mark.parametrize('kind', ['yolo', 'voc', 'refcoco'])
def test_a_model_learns_masks_boxes_and_expressions(kind, prepare, labels, tmp_path):
    source = (write_refcoco(tmp_path / 'labels') if kind == 'refcoco'
              else WRITERS[kind](tmp_path / 'labels', labels))
    config = prepare(source, '--val-share', '0')
    # A folder without a synthetic world: the tokenizer is trained on these labels.
    assert (config.parent / 'tokenizer/tokenizer.json').is_file()
    assert run(cli, 'mvp-mm', [
        'train', str(config), '--cfg-options', 'canvas=(64,64)', 'train_cfg.max_iters=30',
        'train_cfg.val_interval=30', 'default_hooks.checkpoint.interval=1000',
        'default_hooks.checkpoint.save_last=False', 'default_hooks.logger.interval=1000',
        'train_dataloader.batch_size=2', 'param_scheduler.0.end=2',
        'param_scheduler.1.begin=2', 'param_scheduler.1.end=30']) == 0
    work = tmp_path / 'work_dirs' / config.parent.name
    file, = work.glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    steps = {row['step']: row['loss'] for row in rows if 'loss' in row}
    # Shorter than the interval of the log, but the first and the last step are in the curves.
    assert {1, 30} <= set(steps)
    assert steps[30] < 0.8 * steps[1]
    assert sum(any(key.startswith('own/') for key in row) for row in rows) == 1
    best, = work.glob('best_own_*.pth')
    assert best.is_file()
