# Copyright (c) mvp_mm authors. All rights reserved.
"""Time matcher and criterion against mmdet's Mask2Former head, on the same tensors, in turns.

Both get the same logits, mask embeddings, mask features and true masks, use the same number of
points and give gradients of the same tensors. Ours compares boxes too. mmdet's head starts from
whole masks; the product that makes them is timed apart. Processor time is counted.

Example::

    python tools/analysis_tools/benchmark_criterion.py --threads 1
"""
from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass

import torch
from mmdet.models.dense_heads import Mask2FormerHead
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.utils import register_all_modules
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mvp_mm.models.losses import (
    HungarianMatcher,
    PerceptionCriterion,
    Predictions,
    Targets,
    reduce_over_ranks,
)

WIDTH = 256
NO_OBJECT = 0.1
PRODUCT = ('mmdet: whole masks', 'mmdet: backward of whole masks')


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default, text in (
            ('sets', 10, 'supervised sets'), ('images', 4, 'images'),
            ('queries', 100, 'queries an image'), ('objects', 10, 'objects an image'),
            ('phrases', 133, 'names'), ('side', 1024, 'side of the canvas'),
            ('points', 12544, 'points a mask is compared on'), ('steps', 5, 'timed steps')):
        parser.add_argument(f'--{name}', type=int, default=default,
                            help=f'{text} (default {default})')
    parser.add_argument('--threads', type=int, help="CPU threads; default: torch's choice")
    return parser.parse_args()


@dataclass
class Scene:
    """Outputs (S, B, Q, …) and mask features (B, C, h, w) of a model, and its targets."""

    logits: Tensor
    boxes: Tensor
    embed: Tensor
    features: Tensor
    targets: Targets


def make_scene(args: argparse.Namespace) -> Scene:
    """Random outputs, and rectangles as objects."""
    torch.manual_seed(0)
    shape = (args.sets, args.images, args.queries)
    cells = args.side // 4
    # As the pixel decoder makes them.
    features = torch.randn(args.images, WIDTH, cells, cells).contiguous(
        memory_format=torch.channels_last)
    size = torch.rand(args.images, args.objects, 2) * 0.4 + 0.1
    boxes = torch.cat([size / 2 + torch.rand_like(size) * (1 - size), size], -1)
    low, high = ((boxes[..., :2] + sign * size / 2).flatten(0, 1) * args.side
                 for sign in (-1, 1))
    place = torch.arange(args.side)
    across, down = ((place >= low[:, i, None]) & (place < high[:, i, None]) for i in (0, 1))
    every = torch.ones(args.images, args.objects, dtype=torch.bool)
    targets = Targets(
        torch.randint(args.phrases, every.shape), boxes, every, ~every,
        torch.arange(every.numel()).view(every.shape), down[:, :, None] & across[:, None])
    return Scene(torch.randn(*shape, args.phrases + 1), torch.rand(*shape, 4) * 0.3 + 0.3,
                 torch.randn(*shape, WIDTH) * 0.2, features, targets)


class Clock:
    """Processor seconds of named parts, one value a step."""

    def __init__(self) -> None:
        self.parts: dict[str, list[float]] = defaultdict(list)
        self.last = time.process_time()

    def lap(self, name: str | None = None) -> None:
        """Book the time since the last lap."""
        now = time.process_time()
        if name:
            self.parts[name].append(now - self.last)
        self.last = time.process_time()


def run_ours(scene: Scene, args: argparse.Namespace, clock: Clock) -> None:
    """Match, compute the losses, go back to the outputs."""
    matcher = HungarianMatcher(num_points=args.points)
    criterion = PerceptionCriterion(num_points=args.points, no_object_weight=NO_OBJECT)
    logits, boxes, embed, features = (
        x.clone().requires_grad_() for x in (scene.logits, scene.boxes, scene.embed,
                                             scene.features))
    is_word = torch.ones(args.images, dtype=torch.bool)
    valid = torch.ones(logits.shape[:3], dtype=torch.bool)
    predictions = Predictions(logits, boxes, embed, valid, args.queries)
    clock.lap()
    masks = criterion.sample(features, scene.targets, torch.arange(args.images))
    matches = matcher(predictions, scene.targets, is_word, masks)
    clock.lap('ours: matching')
    means = criterion(predictions, scene.targets, matches, is_word, masks)
    flat = {f'{name}{s}': mean._replace(total=total, count=count)
            for name, mean in means.items() for s, (total, count) in enumerate(zip(
                mean.total, mean.count.expand_as(mean.total), strict=True))}
    total = sum(reduce_over_ranks(flat).values())
    clock.lap('ours: losses')
    total.backward()
    clock.lap('ours: backward')


def make_peer(args: argparse.Namespace) -> Mask2FormerHead:
    """mmdet's head without its decoder: matcher and losses alone."""
    head = Mask2FormerHead.__new__(Mask2FormerHead)
    nn.Module.__init__(head)
    head.num_queries, head.num_classes = args.queries, args.phrases
    head.num_points, head.oversample_ratio, head.importance_sample_ratio = args.points, 3.0, 0.75
    head.class_weight = [1.0] * args.phrases + [NO_OBJECT]
    head.loss_cls = MODELS.build(dict(
        type='CrossEntropyLoss', loss_weight=2.0, class_weight=head.class_weight))
    head.loss_mask = MODELS.build(dict(
        type='CrossEntropyLoss', use_sigmoid=True, loss_weight=5.0))
    head.loss_dice = MODELS.build(dict(
        type='DiceLoss', use_sigmoid=True, activate=True, naive_dice=True, eps=1.0,
        loss_weight=5.0))
    head.assigner = TASK_UTILS.build(dict(type='HungarianAssigner', match_costs=[
        dict(type='ClassificationCost', weight=2.0),
        dict(type='CrossEntropyLossCost', weight=5.0, use_sigmoid=True),
        dict(type='DiceCost', weight=5.0, pred_act=True, eps=1.0)]))
    head.sampler = TASK_UTILS.build(
        dict(type='MaskPseudoSampler'), default_args=dict(context=head))
    return head


def run_peer(head: Mask2FormerHead, scene: Scene, args: argparse.Namespace,
             clock: Clock) -> None:
    """The same with mmdet's head."""
    logits, embed, features = (
        x.clone(memory_format=torch.contiguous_format).requires_grad_()
        for x in (scene.logits, scene.embed, scene.features))
    truths = [InstanceData(labels=labels, masks=scene.targets.masks[index])
              for labels, index in zip(
                  scene.targets.labels, scene.targets.mask_index, strict=True)]
    clock.lap()
    product = torch.einsum('sbqc,bchw->sbqhw', embed, features)
    clock.lap(PRODUCT[0])
    masks = product.detach().requires_grad_()
    total = sum(head.loss_by_feat(logits, masks, truths, [{}] * args.images).values())
    clock.lap('mmdet: matching and losses')
    total.backward()
    clock.lap('mmdet: backward')
    product.backward(masks.grad)
    clock.lap(PRODUCT[1])


def main() -> None:
    """Benchmark."""
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    register_all_modules()
    scene, head, clock = make_scene(args), make_peer(args), Clock()
    for step in range(args.steps + 1):
        if step == 1:  # the first step warms caches
            clock.parts.clear()
        run_ours(scene, args, clock)
        run_peer(head, scene, args, clock)
    medians = {name: statistics.median(values) for name, values in clock.parts.items()}
    print(f'{args.sets} sets of {args.images} x {args.queries} queries, {args.objects} objects, '
          f'{args.points} points, {torch.get_num_threads()} threads, median of {args.steps}')
    for name, value in medians.items():
        print(f'  {name:<32}{value:>8.2f} s')
    ours = sum(value for name, value in medians.items() if name.startswith('ours'))
    whole = sum(medians.values()) - ours
    bare = whole - sum(medians[name] for name in PRODUCT)
    print(f'  ratio, from embeddings for both {whole / ours:>8.2f}')
    print(f'  ratio, whole masks given to mmdet{bare / ours:>7.2f}')


if __name__ == '__main__':
    main()
