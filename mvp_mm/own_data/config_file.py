# Copyright (c) mvp_mm authors. All rights reserved.
"""The config that trains on written labels."""
from __future__ import annotations

from pathlib import Path

from mvp_mm.own_data.labels import LabelError
from mvp_mm.own_data.write import Written
from mvp_mm.utils.shipped import find_shipped, shipped_root

_DATASETS = dict(
    masks=("type='CocoInstanceDataset'", 'InstanceTask', "ann_file='{split}.json'",
           'CocoAPMetric'),
    boxes=("type='BoxDetectionDataset'", 'DetectionTask', "ann_file='{split}.json'",
           'CocoAPMetric'),
    expressions=("type='RefCocoDataset', ann_file='refs.json', instances_file='instances.json'",
                 'ReferringComprehensionTask', "split='{split}'", 'ReferringMetric'))
# What a model that learns from boxes alone can be asked: its masks would be at random values.
_BOX_TASKS = dict(boxes=('detection', 'DetectionTask'),
                  expressions=('referring_comprehension', 'ReferringComprehensionTask'))


def find_base(name: str) -> Path:
    """Find a config to inherit.

    Args:
        name: ``tiny``, ``lora`` or ``full`` of ``configs/mvplm/finetune``, or a path.

    Raises:
        LabelError: If there is no such config.
    """
    path = Path(name)
    if path.suffix != '.py' and len(path.parts) == 1:
        path = Path('configs/mvplm/finetune', f'{name}.py')
    try:
        return find_shipped(path).resolve()
    except FileNotFoundError as error:
        raise LabelError(f'no config {name!r} to inherit; take tiny, lora, full or a file '
                         f'({error})') from error


def inherited_as(base: Path) -> str:
    """Return what to write as ``_base_``, so that it holds from any folder.

    A config of this package is named such that it is found where the package is installed, any
    other by its absolute path.
    """
    configs = (shipped_root() / 'configs').resolve()
    if base.is_relative_to(configs):
        return '{{$MVP_MM_CONFIGS:configs}}/' + base.relative_to(configs).as_posix()
    return str(base)


def config_text(written: Written, base: Path, tokenizer: Path | None = None) -> str:
    """Write out a config of a dozen lines.

    Args:
        written: The dataset.
        base: The config to inherit, from :func:`find_base`.
        tokenizer: Folder of the tokenizer, where it is not the one of the base.

    Returns:
        The text of the config file.
    """
    dataset, task, part, metric = _DATASETS[written.kind]
    boxes_only = ", targets=('box', )" if written.kind == 'expressions' else (
        ", iou_types=['bbox']" if written.kind == 'boxes' else '')
    lines = [
        f'# {written.summary[0]}',
        f'_base_ = {inherited_as(base)!r}',
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
    if written.kind in _BOX_TASKS:
        name, asked = _BOX_TASKS[written.kind]
        lines += [
            '# The labels have no masks. Weights that know masks: leave this line out.',
            f"inferencer = dict(tasks=dict(_delete_=True, {name}=dict(type='{asked}')))"]
    if tokenizer is not None:
        lines.append(f'model = dict(tokenizer=dict(path={str(tokenizer.resolve())!r}))')
    return '\n'.join(lines) + '\n'
