# Copyright (c) mvp_mm authors. All rights reserved.
"""The worst answers of a model, with pictures: truth beside prediction, worst first.

Word lists with panoptic truth are ranked by the image's PQ, everything else by IoU.

Example::

    python tools/analysis_tools/failure_sheets.py CONFIG CHECKPOINT --out work_dirs/failures
"""
from __future__ import annotations

import argparse
import heapq
import sys

import mmcv
import numpy as np

from mvp_mm.analysis.evaluated_model import (
    EvaluatedModel,
    add_arguments,
    answer_regions,
    markdown,
    overlap,
    truth_regions,
    write_figures,
)
from mvp_mm.evaluation.panoptic_quality import match_segments
from mvp_mm.structures import PerceptionDataSample
from mvp_mm.utils.arrays import to_numpy
from mvp_mm.utils.images import read_image
from mvp_mm.visualization import PerceptionVisualizer, contact_sheet
from mvp_mm.visualization.text import text_panel

_WIDTH = 900


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.add_argument('--worst', type=int, default=8, help='answers of each data set')
    parser.add_argument('--columns', type=int, default=2, help='columns of a sheet')
    parser.add_argument('--score-thr', type=float, default=0.3,
                        help='instances of word lists with lower scores are left out')
    return parser.parse_args()


def quality(sample: PerceptionDataSample, score_thr: float) -> tuple[str, float]:
    """Name and value in percent of what a sample is ranked by."""
    if 'pred_panoptic_seg' in sample and 'panoptic' in sample.gt_eval:
        truth, found = sample.gt_eval, sample.pred_panoptic_seg
        counts = match_segments(
            to_numpy(truth['panoptic']), truth['segments_info'], to_numpy(found['panoptic']),
            found['segments_info'], len(sample.instruction.phrases))
        iou, hit, wrong, missed = counts[counts[:, 1:].any(1)].T
        return 'PQ', 100 * float(np.mean(iou / (hit + (wrong + missed) / 2))) if len(hit) else 100.
    return 'IoU', 100 * overlap(truth_regions(sample), answer_regions(sample, score_thr))


def worst_of(run: EvaluatedModel, name: str, number: int,
             score_thr: float) -> list[tuple[str, float, PerceptionDataSample]]:
    """The answers of lowest quality, the worst first; at most ``number`` are held at a time."""
    heap: list[tuple[float, int, str, PerceptionDataSample]] = []
    count = 0
    for batch in run.batches(name):
        for sample in run.answer(batch):
            measure, value = quality(sample, score_thr)
            count += 1
            heapq.heappush(heap, (-value, -count, measure, sample.to('cpu')))
            if len(heap) > number:
                heapq.heappop(heap)
    ranked = sorted(heap, key=lambda entry: (-entry[0], -entry[1]))
    return [(measure, -value, sample) for value, _, measure, sample in ranked]


def picture(visualizer: PerceptionVisualizer, title: str, sample: PerceptionDataSample,
            score_thr: float) -> np.ndarray:
    """Truth and prediction under a title, (H, W, 3) uint8 RGB."""
    pixels = read_image(sample.img_path, sample.metainfo.get('apply_exif', True))
    image = np.ascontiguousarray(pixels[..., ::-1])
    drawn = visualizer.draw(image, sample, pred_score_thr=score_thr)
    if drawn.shape[1] > _WIDTH:
        drawn = mmcv.imresize(drawn, (_WIDTH, round(drawn.shape[0] * _WIDTH / drawn.shape[1])))
    return np.concatenate([text_panel([(title, '')], drawn.shape[1]), drawn])


def main() -> None:
    """Make a sheet for every data set."""
    args = parse_args()
    try:
        if args.worst < 1:
            raise ValueError(f'--worst must be positive, got {args.worst}')
        run = EvaluatedModel(args)
        visualizer = PerceptionVisualizer(name='failure_sheets')
        figures = {}
        args.out.mkdir(parents=True, exist_ok=True)
        for name in run.loaders:
            worst = worst_of(run, name, args.worst, args.score_thr)
            sheet = [picture(visualizer, f'{rank}. {measure} {value:.1f} · image {sample.img_id}',
                             sample, args.score_thr)
                     for rank, (measure, value, sample) in enumerate(worst, 1)]
            mmcv.imwrite(contact_sheet(sheet, args.columns)[..., ::-1],
                         str(args.out / f'{name}.png'))
            figures[name] = [{
                'img_id': sample.img_id, 'img_path': sample.img_path, measure: value,
                'expression': sample.get('expression', '')} for measure, value, sample in worst]
            rows = [[sample.img_id, measure, value, sample.get('expression', '')]
                    for measure, value, sample in worst]
            print(f'\n{name}: {args.out / name}.png\n')
            print(markdown(['image', 'measure', 'value', 'sentence'], rows))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f'failure_sheets: error: {error}')
    write_figures(args.out, 'failures', figures)


if __name__ == '__main__':
    main()
