# Copyright (c) mvp_mm authors. All rights reserved.
"""What base queries and residuals (selected visual features) bring, each alone.

A query is the sum of a base query, which the LLM writes, and a residual, the visual feature that
was selected for it, whose box is where it starts to look. Each is set to zero in turn. Reported
for every data set: the metrics, the IoU of the final masks with the truth, and with the full
model's masks. Pictures show where the answering query looks in the last decoder layer.

Example::

    python tools/analysis_tools/query_contribution.py CONFIG CHECKPOINT --out work_dirs/queries
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from textwrap import shorten
from typing import Any

import cv2
import mmcv
import numpy as np
import torch
from torch import Tensor, nn

from mvp_mm.analysis.evaluated_model import (
    EvaluatedModel,
    add_arguments,
    answer_regions,
    markdown,
    overlap,
    process,
    summary,
    truth_regions,
    write_figures,
)
from mvp_mm.models import MVPLM
from mvp_mm.models.query_generators import QuerySet
from mvp_mm.ops import DeformableAttention
from mvp_mm.structures import PerceptionDataSample, RawPrediction
from mvp_mm.tasks.decoding import rescale_boxes, word_probabilities
from mvp_mm.utils.images import read_image
from mvp_mm.visualization import contact_sheet
from mvp_mm.visualization.drawing import draw_box, enlarge
from mvp_mm.visualization.palette import color_of
from mvp_mm.visualization.text import text_panel

# Which parts of the query are left.
VARIANTS = {
    'full': dict(base=True, residual=True, box=True),
    'residual': dict(base=False, residual=True, box=True),
    'base + box': dict(base=True, residual=False, box=True),
    'base': dict(base=True, residual=False, box=False),
}


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    add_arguments(parser)
    parser.add_argument('--pictures', type=int, default=3, help='questions drawn of each data set')
    parser.add_argument('--score-thr', type=float, default=0.3,
                        help='instances of word lists with lower scores are left out')
    return parser.parse_args()


@contextmanager
def only(model: MVPLM, base: bool, residual: bool, box: bool) -> Iterator[None]:
    """Let the queries consist of some of their parts.

    Args:
        model: With dynamic queries.
        base: Keep the base queries.
        residual: Keep the selected visual features.
        box: Keep their boxes; without them a query starts from the whole canvas.

    Raises:
        ValueError: If the model's queries do not have these parts.
    """
    generator = model.perception.query_generator
    if not (hasattr(generator, 'base') and hasattr(generator, 'selection')):
        raise ValueError(f'{type(generator).__name__} does not make queries of a base and a '
                         'residual')

    def without_base(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        return torch.zeros_like(output)

    def without_features(module: nn.Module, inputs: tuple, output: QuerySet) -> QuerySet:
        boxes = output.boxes
        if not box:
            boxes = boxes.new_tensor((0.5, 0.5, 1., 1.)).expand_as(boxes)
        return replace(output, content=torch.zeros_like(output.content), boxes=boxes)

    with ExitStack() as stack:
        for keep, part, hook in ((base, generator.base, without_base),
                                 (residual, generator.selection, without_features)):
            if not keep:
                stack.callback(part.register_forward_hook(hook).remove)
        yield


class Watch:
    """Keeps what the last decoder layer samples, and the raw prediction, of one question.

    Stands in for the task of the sample and decodes as it does.

    Args:
        model: Its decoder's last layer is watched.
        task: The sample's task.

    Attributes:
        raw: The raw prediction.
        locations: (Q, points, 2) xy in [0, 1] of the canvas, of all heads and levels.
        weights: (Q, points), mean over the heads.
    """

    def __init__(self, model: MVPLM, task: Any) -> None:
        self.task = task
        self.raw: RawPrediction | None = None
        attention = model.perception.decoder.layers[-1].cross_attention
        if not isinstance(attention, DeformableAttention):
            raise ValueError(f'{type(attention).__name__} has no attention points to draw')
        self.handle = attention.register_forward_pre_hook(self._look)

    def _look(self, module: DeformableAttention, inputs: tuple) -> None:
        query, _, reference, shapes = inputs[:4]
        locations, weights = module._points(query.float(), reference.float(), shapes)
        self.locations = locations[0].flatten(1, 3).cpu()
        self.weights = weights[0].flatten(1, 3).cpu() / weights.shape[2]

    def decode(self, raw: RawPrediction, sample: PerceptionDataSample) -> None:
        """Keep the raw prediction and decode it."""
        self.raw = raw
        self.task.decode(raw, sample)

    def answering(self, sample: PerceptionDataSample, number: int = 4) -> list[int]:
        """The queries that answer: those that a sentence chose, the best few of a word list.

        Args:
            sample: With predictions.
            number: At most so many.
        """
        if sample.instruction.kind == 'sentence':
            return self._chosen(sample)[:number]
        likely = word_probabilities(self.raw, sample)[:self.raw.num_dynamic, :-1].amax(1)
        return likely.topk(min(number, len(likely))).indices.tolist()

    def _chosen(self, sample: PerceptionDataSample) -> list[int]:
        """The query of each answer to a sentence, found by its box and score."""
        found = sample.pred_instances
        boxes = rescale_boxes(self.raw.boxes, sample.metainfo)
        scores = self.raw.logits.float().sigmoid()
        gaps = (found.bboxes[:, None] - boxes).abs().amax(-1) + (
            found.scores[:, None] - scores).abs()
        if gaps.numel() and gaps.amin(1).max() > 1e-3:
            raise ValueError(f'{type(self.task).__name__} answers by no query of its own')
        return gaps.argmin(1).tolist()


def measure(run: EvaluatedModel, name: str, score_thr: float) -> dict[str, dict[str, float]]:
    """Metrics and overlaps of every variant on a data set."""
    metrics = {variant: run.metrics(name) for variant in VARIANTS}
    shares: dict[str, list[tuple[float, float]]] = {variant: [] for variant in VARIANTS}
    for batch in run.batches(name):
        full: list[dict[int, np.ndarray]] = []
        for variant, parts in VARIANTS.items():
            with only(run.model, **parts):
                answers = run.answer(batch)
            process(metrics[variant], batch, answers)
            regions = [answer_regions(sample, score_thr) for sample in answers]
            full = full or regions
            shares[variant] += [
                (overlap(truth_regions(sample), found), overlap(first, found))
                for sample, found, first in zip(answers, regions, full, strict=True)]
    return {variant: {
        'IoU with the truth': 100 * float(np.mean([truth for truth, _ in shares[variant]])),
        'IoU with the full model': 100 * float(np.mean([same for _, same in shares[variant]])),
        **summary(metrics[variant])} for variant in VARIANTS}


def draw_points(image: np.ndarray, watch: Watch, sample: PerceptionDataSample) -> np.ndarray:
    """The answering queries' boxes, and their attention points, larger where they weigh more."""
    picture, factor = enlarge(image, 360)
    picture = (picture * 0.6 + 102).astype(np.uint8)
    canvas = np.array(sample.batch_input_shape[::-1])
    # From the canvas to the original image, as boxes go.
    scale = canvas * np.array(sample.ori_shape[1::-1]) / np.array(sample.img_shape[1::-1])
    for order, query in enumerate(watch.answering(sample)):
        colour = color_of(order)
        weights = watch.weights[query].numpy()
        points = watch.locations[query].numpy() * scale * factor
        for point, weight in zip(points, weights / weights.max(), strict=True):
            centre = tuple(int(round(float(side))) for side in point)
            cv2.circle(picture, centre, 1 + round(4 * float(weight)), colour, -1, cv2.LINE_AA)
        box = rescale_boxes(watch.raw.boxes[query][None], sample.metainfo)[0]
        draw_box(picture, (box.cpu().numpy() * factor).tolist(), colour)
    return picture


def draw(run: EvaluatedModel, name: str, number: int) -> np.ndarray:
    """A row a question, a column a variant, (H, W, 3) uint8 RGB."""
    cells: list[np.ndarray] = []
    for batch in run.batches(name):
        for inputs, group in zip(batch['inputs'], batch['data_samples'], strict=True):
            if not group or len(cells) == number * len(VARIANTS):
                continue
            pixels = read_image(group[0].img_path, group[0].metainfo.get('apply_exif', True))
            image = np.ascontiguousarray(pixels[..., ::-1])
            for variant, parts in VARIANTS.items():
                sample = group[0].new()
                watch = Watch(run.model, sample.task_object)
                sample.task_object = watch
                try:
                    with only(run.model, **parts):
                        answered, = run.answer(dict(inputs=[inputs], data_samples=[[sample]]))
                finally:
                    watch.handle.remove()
                picture = draw_points(image, watch, answered)
                asked = shorten(', '.join(sample.instruction.phrases), 60, placeholder=' …')
                title = text_panel([(variant, asked)], picture.shape[1])
                cells.append(np.concatenate([title, picture]))
    return contact_sheet(cells, len(VARIANTS))


def main() -> None:
    """Measure and draw every data set."""
    args = parse_args()
    figures = {}
    try:
        run = EvaluatedModel(args)
        args.out.mkdir(parents=True, exist_ok=True)
        for name in run.loaders:
            figures[name] = measure(run, name, args.score_thr)
            keys = dict.fromkeys(key for part in figures[name].values() for key in part)
            rows = [[key, *(part.get(key, '') for part in figures[name].values())]
                    for key in keys]
            print(f'\n{name}, first {args.images} images\n')
            print(markdown(['', *VARIANTS], rows))
            if args.pictures > 0:
                mmcv.imwrite(draw(run, name, args.pictures)[..., ::-1],
                             str(args.out / f'points_{name}.png'))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f'query_contribution: error: {error}')
    write_figures(args.out, 'query_contribution', figures)


if __name__ == '__main__':
    main()
