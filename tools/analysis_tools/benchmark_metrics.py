# Copyright (c) mvp_mm authors. All rights reserved.
"""Time the metrics and the panoptic decoding against plain versions, in one run.

Times are processor time of one thread, the best of a few rounds. Results are compared before
anything is timed. With a config and a checkpoint, what is timed instead is how much the metrics of
its test data sets add to inference.

Examples::

    python tools/analysis_tools/benchmark_metrics.py --panoptic data/coco/panoptic_val2017 \\
        --out work_dirs/metrics.json
    python tools/analysis_tools/benchmark_metrics.py --config CONFIG --checkpoint CHECKPOINT
"""
from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.models.seg_heads.panoptic_fusion_heads import MaskFormerFusionHead
from mmengine.config import ConfigDict, DictAction
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask

from mvp_mm.analysis.evaluated_model import EvaluatedModel, process, summary
from mvp_mm.analysis.results import write_result
from mvp_mm.evaluation import ReferringMetric
from mvp_mm.evaluation.panoptic_quality import match_segments
from mvp_mm.structures import Instruction, PerceptionDataSample, RawPrediction, Segment, SegmentKind
from mvp_mm.tasks.decoding import decode_panoptic
from mvp_mm.utils.masks import read_segment_map

HEIGHT, WIDTH = SIZE = 480, 640
CLASSES, THINGS = 133, 80
VOID, OFFSET = 0, 256**3


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--panoptic', type=Path, metavar='DIR',
                        help='folder of COCO panoptic PNGs to use for PQ, those of 640 x 480; '
                        'behind made-up maps')
    parser.add_argument('--rounds', type=int, default=5, help='rounds of each part (default 5)')
    parser.add_argument('--out', type=Path, help='result file to write')
    added = parser.add_argument_group('what evaluation adds to inference')
    added.add_argument('--config', help='config with named test data sets')
    added.add_argument('--checkpoint', help='checkpoint, published folder or name of the model zoo')
    added.add_argument('--datasets', nargs='+', metavar='NAME',
                       help='data sets of test_dataloader; default all')
    added.add_argument('--images', type=int, default=24,
                       help='first images of each data set (default 24)')
    added.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    args = parser.parse_args()
    if (args.config is None) != (args.checkpoint is None):
        parser.error('--config and --checkpoint need each other')
    if args.rounds < 1:
        parser.error(f'--rounds must be at least 1, got {args.rounds}')
    if args.panoptic and not args.panoptic.is_dir():
        sys.exit(f'benchmark_metrics: error: no such folder: {args.panoptic}')
    return args


def seconds(run: Callable[[], object], rounds: int) -> float:
    """Processor time of the fastest round."""
    best = float('inf')
    for _ in range(rounds):
        start = time.process_time()
        run()
        best = min(best, time.process_time() - start)
    return best


def blobs(generator: torch.Generator, count: int, coarse: int) -> torch.Tensor:
    """(count, 480, 640) smooth random maps."""
    grid = torch.randn(1, count, coarse * 3, coarse * 4, generator=generator)
    return F.interpolate(grid, SIZE, mode='bicubic', align_corners=False)[0]


def panoptic_maps(folder: Path | None) -> list[np.ndarray]:
    """Maps of segment numbers, 0 being void."""
    if folder is None:
        generator = torch.Generator().manual_seed(0)
        return [blobs(generator, count, 4).argmax(0).numpy().astype(np.int32)
                for count in range(4, 36, 2)]
    maps = [read_segment_map(str(path)) for path in sorted(folder.glob('*.png'))]
    maps = [ids for ids in maps if ids.shape == SIZE]
    if not maps:
        sys.exit(f'benchmark_metrics: error: no PNG of 640 x 480 in {folder}')
    return [np.unique(ids, return_inverse=True)[1].reshape(SIZE).astype(np.int32) for ids in maps]


def with_prediction(gt: np.ndarray, rng: np.random.Generator) -> tuple:
    """A map with segments, and the same map shifted, as panopticapi has them."""
    areas = np.bincount(gt.ravel())
    segments = [dict(id=k, label=int(rng.integers(CLASSES)), iscrowd=0, area=int(areas[k]))
                for k in range(1, len(areas))]
    pred = np.roll(gt, 3, axis=1).copy()
    return gt, segments, pred, [dict(id=s['id'], label=s['label']) for s in segments]


def plain_match(gt: np.ndarray, gt_segments: list, pred: np.ndarray,
                pred_segments: list) -> np.ndarray:
    """PQ's counts in the way of panopticapi: two ``np.unique`` and dicts, no PNG."""
    counts = np.zeros((CLASSES, 4))
    truth = {s['id']: s for s in gt_segments}
    found = {s['id']: dict(s) for s in pred_segments}
    for number, pixels in zip(*np.unique(pred, return_counts=True), strict=True):
        if number != VOID:
            found[number]['area'] = pixels
    shared = {}
    joint = gt.astype(np.uint64) * OFFSET + pred.astype(np.uint64)
    for pair, pixels in zip(*np.unique(joint, return_counts=True), strict=True):
        shared[pair // OFFSET, pair % OFFSET] = pixels
    gt_done, pred_done, crowd = set(), set(), {}
    for (i, j), pixels in shared.items():
        if i not in truth or j not in found or truth[i]['iscrowd']:
            continue
        if truth[i]['label'] != found[j]['label']:
            continue
        union = truth[i]['area'] + found[j]['area'] - pixels - shared.get((VOID, j), 0)
        if pixels / union > 0.5:
            counts[truth[i]['label'], :2] += pixels / union, 1
            gt_done.add(i)
            pred_done.add(j)
    for i in truth.keys() - gt_done:
        if truth[i]['iscrowd']:
            crowd[truth[i]['label']] = i
        else:
            counts[truth[i]['label'], 3] += 1
    for j in found.keys() - pred_done:
        spared = shared.get((VOID, j), 0) + shared.get((crowd.get(found[j]['label']), j), 0)
        counts[found[j]['label'], 2] += spared / found[j]['area'] <= 0.5
    return counts


def time_pq(folder: Path | None, rounds: int) -> dict[str, float]:
    """PQ against the plain version, over all maps; the ratio of each map is in the range."""
    rng = np.random.default_rng(0)
    cases = [with_prediction(gt, rng) for gt in panoptic_maps(folder)]
    for case in cases:
        if not np.allclose(match_segments(*case, CLASSES), plain_match(*case), atol=1e-9):
            sys.exit('benchmark_metrics: error: the two versions of PQ differ')
    plain, ours = np.array([[
        seconds(lambda case=case: plain_match(*case), rounds),
        seconds(lambda case=case: match_segments(*case, CLASSES), rounds)] for case in cases]).T
    ratios = plain / ours
    found = dict(maps=len(cases), ms=1e3 * ours.mean(), plain_ms=1e3 * plain.mean(),
                 least=ratios.min(), most=ratios.max())
    print(f'PQ, {len(cases)} maps of {WIDTH} x {HEIGHT}: {found["ms"]:.2f} ms an image, two '
          f'np.unique {found["plain_ms"]:.2f} ms: {found["least"]:.1f} to {found["most"]:.1f} x')
    return found


def raw_prediction(kept: int) -> RawPrediction:
    """200 queries, of which some score above 0.1; masks have the image's size."""
    generator = torch.Generator().manual_seed(kept)
    logits = torch.randn(200, CLASSES + 1, generator=generator)
    labels = torch.randint(CLASSES, (200,), generator=generator)
    logits[torch.arange(200), labels] += 8
    logits[kept:, CLASSES] += 20
    return RawPrediction(logits, torch.zeros(200, 4), blobs(generator, 200, 4) * 6 - 3, 200)


def same_segments(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Whether two maps part the image alike, whatever the numbers."""
    pairs = torch.stack((ours.flatten(), theirs.flatten())).unique(dim=1)
    return all(len(row.unique()) == pairs.shape[1] for row in pairs)


def time_decoding(rounds: int) -> dict[str, dict[str, float]]:
    """Panoptic decoding against mmdet's, same tensors and thresholds."""
    phrases = [str(k) for k in range(CLASSES)]
    sample = PerceptionDataSample(metainfo=dict.fromkeys(
        ('ori_shape', 'img_shape', 'batch_input_shape'), SIZE))
    sample.instruction = Instruction(
        task='panoptic', kind='word', prompt=[Segment(SegmentKind.PHRASE, p) for p in phrases],
        response=[], phrases=phrases, is_thing=np.arange(CLASSES) < THINGS)
    head = MaskFormerFusionHead(THINGS, CLASSES - THINGS, test_cfg=ConfigDict(
        object_mask_thr=0.1, iou_thr=0.8, filter_low_score=True))
    found = {}
    for kept in (25, 50, 100, 200):
        raw = raw_prediction(kept)

        def ours(raw: RawPrediction = raw) -> torch.Tensor:
            return decode_panoptic(raw, sample, score_thr=0.1, mask_thr=0.5,
                                   overlap_thr=0.8)['panoptic']

        def theirs(raw: RawPrediction = raw) -> torch.Tensor:
            return head.panoptic_postprocess(raw.logits, raw.mask_logits).sem_seg[0]

        if not same_segments(ours(), theirs()):
            sys.exit('benchmark_metrics: error: the two panoptic maps differ')
        fast, slow = seconds(ours, rounds), seconds(theirs, rounds)
        print(f'panoptic decoding, {kept} of 200 queries above the score threshold: '
              f'{1e3 * fast:.0f} ms, mmdet {1e3 * slow:.0f} ms: {slow / fast:.1f} x')
        found[str(kept)] = dict(ms=1e3 * fast, mmdet_ms=1e3 * slow, times=slow / fast)
    return found


def time_res(rounds: int) -> float:
    """RES over sentences with one mask each, in masks per second."""
    masks = blobs(torch.Generator().manual_seed(0), 64, 4) > 0.5
    samples = []
    for number, mask in enumerate(masks):
        truth = coco_mask.encode(np.asfortranarray(mask.roll(8, 1).numpy(), dtype=np.uint8))
        sample = PerceptionDataSample(metainfo=dict(
            img_id=number, ori_shape=SIZE, ref_id=number, sent_id=number))
        sample.instruction = Instruction(
            task='refer', kind='sentence', prompt=[Segment(SegmentKind.PHRASE, 'it')],
            response=[], phrases=['it'], is_thing=np.ones(1, dtype=bool))
        sample.gt_eval = dict(bboxes=np.zeros((1, 4)), masks=[truth], labels=np.zeros(1))
        sample.pred_instances = InstanceData(
            bboxes=torch.zeros(1, 4), scores=torch.ones(1), masks=mask[None])
        samples.append(sample.to_dict())

    def run() -> None:
        ReferringMetric(targets=['mask']).process(None, samples)

    spent = seconds(run, rounds)
    print(f'RES, masks of {WIDTH} x {HEIGHT}: {len(samples) / spent:.0f} masks/s')
    return len(samples) / spent


def time_evaluation(args: argparse.Namespace) -> None:
    """What the metrics of each data set add to the model's answers, in percent of their time.

    The answers are ``model.test_step``, decoding included, without the loading of images. The
    first batch is answered once before, untimed.
    """
    run = EvaluatedModel(args)
    on_device = next(run.model.parameters()).is_cuda
    # A device works while the processor waits.
    clock = time.perf_counter if on_device else time.process_time

    def since(start: float) -> float:
        if on_device:
            torch.cuda.synchronize()
        return clock() - start

    for name in run.loaders:
        metrics = run.metrics(name)
        run.answer(next(iter(run.batches(name))))
        answering = processing = 0.
        images = samples = 0
        for batch in run.batches(name):
            start = clock()
            answers = run.answer(batch)
            answering += since(start)
            start = clock()
            process(metrics, batch, answers)
            processing += since(start)
            images += len(batch['inputs'])
            samples += len(answers)
        start = clock()
        summary(metrics)
        summing = since(start)
        print(f'{name}, {images} images, {samples} instructions: test_step {answering:.2f} s, '
              f'process of the metrics {processing:.2f} s: {100 * processing / answering:.1f} %; '
              f'evaluate at the end {summing:.2f} s: {100 * summing / answering:.1f} %')


def main() -> None:
    """Time all parts, or evaluation on a config."""
    args = parse_args()
    torch.set_num_threads(1)
    if args.config:
        try:
            time_evaluation(args)
        except (ValueError, FileNotFoundError) as error:
            sys.exit(f'benchmark_metrics: error: {error}')
        return
    start = time.perf_counter()
    figures: dict[str, Any] = dict(pq=dict(made_up=time_pq(None, args.rounds)))
    if args.panoptic:
        figures['pq']['real'] = time_pq(args.panoptic, args.rounds)
    figures['panoptic'] = time_decoding(args.rounds)
    figures['res'] = dict(masks_per_second=time_res(args.rounds))
    if args.out:
        write_result(args.out, figures, seconds=time.perf_counter() - start)


if __name__ == '__main__':
    main()
