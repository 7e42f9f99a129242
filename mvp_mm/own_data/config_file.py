# Copyright (c) mvp_mm authors. All rights reserved.
"""The config that trains on written labels."""
from __future__ import annotations

import os
from pathlib import Path

from mvp_mm.own_data.write import Written

_DATASETS = dict(
    masks=("type='CocoInstanceDataset'", 'InstanceTask', "ann_file='{split}.json'",
           'CocoAPMetric'),
    boxes=("type='BoxDetectionDataset'", 'DetectionTask', "ann_file='{split}.json'",
           'CocoAPMetric'),
    expressions=("type='RefCocoDataset', ann_file='refs.json', instances_file='instances.json'",
                 'ReferringComprehensionTask', "split='{split}'", 'ReferringMetric'))


def config_text(written: Written, base: str | Path, target: Path) -> str:
    """Write out a config of a dozen lines.

    Args:
        written: The dataset.
        base: The config to inherit, such as ``configs/mvplm/finetune/tiny.py``.
        target: Where the config will be written, from where its base is found.

    Returns:
        The text of the config file.
    """
    dataset, task, part, metric = _DATASETS[written.kind]
    boxes_only = ", targets=('box', )" if written.kind == 'expressions' else (
        ", iou_types=['bbox']" if written.kind == 'boxes' else '')
    inherited = os.path.relpath(Path(base).resolve(), target.resolve().parent)
    lines = [
        f'# {written.summary[0]}',
        f'_base_ = {inherited!r}',
        '_own = dict(',
        f'    {dataset},',
        f'    data_root={str(written.folder.resolve())!r},',
        f'    data_prefix=dict(img={str(written.image_root)!r}),',
        f"    tasks=[dict(type='{task}', response='none')])",
        'datasets = dict(',
        f'    own_train=dict(_own, {part.format(split="train")}, _delete_=True),',
        f'    own_val=dict(_own, {part.format(split="val")}, test_mode=True, _delete_=True,',
        f"                 metrics=[dict(type='{metric}'{boxes_only})]))",
    ]
    return '\n'.join(lines) + '\n'
