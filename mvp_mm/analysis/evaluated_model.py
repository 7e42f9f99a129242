# Copyright (c) mvp_mm authors. All rights reserved.
"""Loads a trained model with the test data of its config, for tools that ask it in several ways."""
from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import DictAction
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from pycocotools import mask as coco_mask

from mvp_mm.analysis.evaluation_sets import choose_test_sets
from mvp_mm.engine.checkpoint import load_whole
from mvp_mm.engine.config_check import check_config
from mvp_mm.engine.config_error import ConfigError
from mvp_mm.engine.config_loading import load_config
from mvp_mm.engine.replaced_weights import build_model
from mvp_mm.evaluation.base import PerceptionMetric
from mvp_mm.evaluation.scoring import meta_of
from mvp_mm.models import MVPLM
from mvp_mm.registry import METRICS
from mvp_mm.structures import PerceptionDataSample
from mvp_mm.utils.arrays import to_numpy
from mvp_mm.utils.checkpoint_io import read_checkpoint


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that the tools share."""
    parser.add_argument('config', help='config with named test datasets')
    parser.add_argument('checkpoint', help='checkpoint, published folder or name of the model zoo')
    parser.add_argument('--datasets', nargs='+', metavar='NAME',
                        help='datasets of test_dataloader; default all that fit')
    parser.add_argument('--images', type=int, default=50, help='first images of each dataset')
    parser.add_argument('--out', type=Path, required=True, help='folder for figures and pictures')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')


class EvaluatedModel:
    """Holds the model and some of the test datasets of a config.

    Args:
        args: Options of :func:`add_arguments`.
        kinds: Kinds of instruction that the tool can use; other datasets are left out, and are
            an error where they are asked for by name.

    Raises:
        ValueError: If a file or name is wrong, or no dataset fits.
    """

    def __init__(self, args: argparse.Namespace,
                 kinds: Sequence[str] = ('word', 'sentence')) -> None:
        if args.images < 1:
            raise ValueError(f'--images must be positive, got {args.images}')
        self.cfg = load_config(args.config, args.cfg_options)
        self.cfg.load_from = args.checkpoint  # first weights that it replaces need not be there
        self.images = args.images
        # Tables of every single run would drown the tool's own.
        MMLogger.get_current_instance().setLevel('WARNING')
        init_default_scope(self.cfg.get('default_scope', 'mvp_mm'))
        chosen = choose_test_sets(self.cfg, args.datasets)
        if '' in chosen:
            raise ConfigError(f'{args.config}: tests one dataset, which has no name; this tool '
                              'needs a name for each')
        for part in (self.cfg.test_dataloader, self.cfg.test_evaluator):
            for name in part.keys() - chosen.keys():
                part.pop(name)
        check_config(self.cfg, modes=('test', ))
        self.loaders = {}
        for name, loader in self.cfg.test_dataloader.items():
            built = Runner.build_dataloader(loader, seed=0)
            kind = built.dataset[0]['data_samples'][0].instruction.kind
            if kind in kinds:
                self.loaders[name] = built
            elif args.datasets:
                raise ValueError(f'{name} asks by {kind}, this tool needs {" or ".join(kinds)}')
        if not self.loaders:
            raise ValueError(f'{args.config}: no test dataset asks by {" or ".join(kinds)}')
        state = read_checkpoint(args.checkpoint)['state_dict']
        self.model: MVPLM = build_model(self.cfg.model, state)
        load_whole(self.model, state, args.checkpoint)
        self.model.to('cuda' if torch.cuda.is_available() else 'cpu').eval()

    def batches(self, name: str) -> Iterator[dict[str, list]]:
        """Yield batches of the first images of a dataset."""
        left = self.images
        for batch in self.loaders[name]:
            yield {key: values[:left] for key, values in batch.items()}
            left -= len(batch['inputs'])
            if left <= 0:
                return

    @torch.no_grad()
    def answer(self, batch: dict[str, list]) -> list[PerceptionDataSample]:
        """Answer a batch, on copies of its samples."""
        groups = [[sample.new() for sample in group] for group in batch['data_samples']]
        return self.model.test_step(dict(inputs=batch['inputs'], data_samples=groups))

    def metrics(self, name: str) -> list[PerceptionMetric]:
        """Build fresh metrics of a dataset."""
        configs = self.cfg.test_evaluator[name]
        built = [METRICS.build(c) for c in (configs if isinstance(configs, list) else [configs])]
        for metric in built:
            metric.dataset_meta = meta_of(self.loaders[name].dataset)
        return built

    def score(self, name: str) -> dict[str, float]:
        """Measure all metrics of a dataset's first images."""
        metrics = self.metrics(name)
        for batch in self.batches(name):
            process(metrics, batch, self.answer(batch))
        return summary(metrics)


def process(metrics: list[PerceptionMetric], batch: dict[str, list] | None,
            answers: list[PerceptionDataSample]) -> None:
    """Feed some answers to the metrics.

    Raises:
        ValueError: If the answers lack what a metric measures.
    """
    for metric in metrics:
        try:
            metric.process(batch, [sample.to_dict() for sample in answers])
        except KeyError as error:
            raise ValueError(f'{type(metric).__name__}: {error.args[0]}') from error


def summary(metrics: list[PerceptionMetric]) -> dict[str, float]:
    """Evaluate the metrics, without the parts by kind of expression."""
    found: dict[str, float] = {}
    for metric in metrics:
        found.update(metric.evaluate(len(metric.results)))
    return {key: value for key, value in found.items() if key.count('/') == 1}


def truth_regions(sample: PerceptionDataSample) -> dict[int, np.ndarray]:
    """Make one (h, w) bool mask per phrase of what a sample's phrases mean."""
    truth, size = sample.gt_eval, sample.ori_shape[:2]
    if 'panoptic' in truth:
        return _segment_regions(truth['panoptic'], truth['segments_info'])
    masks = truth.get('masks')
    masks = _box_masks(truth['bboxes'], size) if masks is None else [
        coco_mask.decode(dict(rle)).astype(bool) for rle in masks]
    return _unite(np.asarray(truth['labels']).tolist(), masks)


def answer_regions(sample: PerceptionDataSample, score_thr: float) -> dict[int, np.ndarray]:
    """Make one (h, w) bool mask per phrase of what was answered.

    Maps are cut to the pixels that are annotated, as their metrics ignore the others.

    Args:
        sample: With predictions, and the truth where they are maps.
        score_thr: Instances of word lists with lower scores are left out.
    """
    if 'pred_panoptic_seg' in sample:
        found = sample.pred_panoptic_seg
        regions = _segment_regions(to_numpy(found['panoptic']), found['segments_info'])
        return _annotated(regions, sample)
    if 'pred_sem_seg' in sample:
        labels = to_numpy(sample.pred_sem_seg)
        return _annotated({int(k): labels == k for k in np.unique(labels)}, sample)
    found = sample.pred_instances
    if sample.instruction.kind == 'word':
        found = found[found.scores >= score_thr]
    masks = (to_numpy(found.masks) if 'masks' in found
             else _box_masks(to_numpy(found.bboxes), sample.ori_shape[:2]))
    return _unite(found.labels.tolist(), masks)


def overlap(one: dict[int, np.ndarray], other: dict[int, np.ndarray]) -> float:
    """Average the IoU over the phrases that either side has a region for; 1 where none has."""
    shares = []
    for phrase in one.keys() | other.keys():
        if phrase in one and phrase in other:
            union = (one[phrase] | other[phrase]).sum()
            shares.append((one[phrase] & other[phrase]).sum() / max(union, 1))
        else:
            shares.append(0.0)
    return float(np.mean(shares)) if shares else 1.0


def _annotated(regions: dict[int, np.ndarray],
               sample: PerceptionDataSample) -> dict[int, np.ndarray]:
    """Regions without pixels that belong to no segment of the truth."""
    truth = sample.gt_eval
    valid = np.isin(to_numpy(truth['panoptic']), [s['id'] for s in truth['segments_info']])
    return _unite(list(regions), [mask & valid for mask in regions.values()])


def _segment_regions(segment_map: np.ndarray, segments: list[dict]) -> dict[int, np.ndarray]:
    return _unite([segment['label'] for segment in segments],
                  [segment_map == segment['id'] for segment in segments])


def _box_masks(boxes: np.ndarray, size: tuple[int, int]) -> list[np.ndarray]:
    """Boxes xyxy as masks."""
    y, x = np.mgrid[:size[0], :size[1]] + 0.5
    return [(x > box[0]) & (x < box[2]) & (y > box[1]) & (y < box[3]) for box in boxes]


def _unite(labels: Sequence[int], masks: Sequence[np.ndarray]) -> dict[int, np.ndarray]:
    regions: dict[int, np.ndarray] = {}
    for label, mask in zip(labels, masks, strict=True):
        if mask.any():
            regions[label] = regions[label] | mask if label in regions else mask
    return regions


def markdown(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Write a table; floats are shown with one decimal."""
    text = [[f'{cell:.1f}' if isinstance(cell, float) else str(cell) for cell in row]
            for row in rows]
    return '\n'.join('| ' + ' | '.join(row) + ' |'
                     for row in (header, ['---'] * len(header), *text))


def write_figures(folder: Path, name: str, figures: Any) -> None:
    """Write figures as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f'{name}.json').write_text(json.dumps(figures, indent=2, ensure_ascii=False))
