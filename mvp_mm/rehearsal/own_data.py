# Copyright (c) mvp_mm authors. All rights reserved.
"""Fits a rehearsal to a user's own datasets: a few images of each, nothing written beside them."""
from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from mvp_mm.engine import load_config
from mvp_mm.rehearsal.leaves import CONFIGS
from mvp_mm.rehearsal.run import Phase
from mvp_mm.rehearsal.step import Step

_IMAGES = 2
_TESTS = ('tools/test.py', 'tools/dist_test.sh')
# Commands that read all of a dataset, or write beside its files.
_WHOLE = ('tools/data/prepare_pascal_context.py', 'tools/data/index_tars.py',
          'tools/data/check_dataset.py', 'tools/data/list_held_out_images.py',
          'tools/analysis_tools/browse_dataset.py', 'tools/analysis_tools/eval_metric.py')
# The metric of LVIS asks every image of the annotation file: it stays a miniature.
_LVIS = 'samples/coco'


def on_own_data(phases: list[Phase], own: Collection[str]) -> list[Phase]:
    """Read a few images where commands would read all of a user's datasets.

    Args:
        phases: From :func:`~mvp_mm.rehearsal.plan.phases`.
        own: Folders of datasets below ``data/`` that are the user's.

    Returns:
        The phases. First, samples of every training and test dataset go through their pipelines
        at full size; tests are shortened to two images per dataset.
    """
    if not own:
        return phases
    shortened: list[Phase] = [
        tuple([_shorten(step, own) for step in lane if _script(step) not in _WHOLE]
              for lane in phase) for phase in phases]
    return [([], [*_browsing()]), *shortened]


def _browsing() -> Iterator[Step]:
    """Draw samples of every dataset as the network sees them, on the full canvas."""
    for name, mode in (('stage1', 'train'), ('stage2', 'train'), ('eval/all', 'test')):
        options = [f'datasets.lvis_val.data_root={_LVIS}'] if mode == 'test' else []
        end = f' --cfg-options {" ".join(options)}' if options else ''
        yield Step(f'python tools/analysis_tools/browse_dataset.py {CONFIGS}/{name}.py '
                   f'--mode {mode} --number {_IMAGES} --out work_dirs/browse_{Path(name).name}'
                   f'{end}', keeps_sizes=True)


def _script(step: Step) -> str:
    return next(word for word in shlex.split(step.command)
                if word.startswith(('tools/', 'demo/')))


def _shorten(step: Step, own: Collection[str]) -> Step:
    """Test on the first images of each dataset that is the user's."""
    if _script(step) not in _TESTS or step.keeps_sizes or not step.configs:
        return step
    options: dict[str, Any] = {}
    for name, loader in load_config(step.configs[0]).test_dataloader.items():
        root = Path(loader.dataset.get('data_root') or '')
        if loader.dataset.type == 'LvisDataset':
            options['datasets.lvis_val.data_root'] = _LVIS
        elif root.name in own or root.parent.name in own:
            options[f'test_dataloader.{name}.dataset.indices'] = _IMAGES
    # Two images may lack what a figure is made of.
    return dataclasses.replace(step, sizes={**step.sizes, **options}, after=None)
