# Copyright (c) mvp_mm authors. All rights reserved.
"""Builds what captions or answers the shards of a set of images, from the options of a command."""
from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from mvp_mm.captioning.backends import Answer, CaptionBackend, CaptionSampling, ImageError
from mvp_mm.captioning.images import ImageSet, images_of_dataset, images_of_folder
from mvp_mm.captioning.ray_shards import add_shard_arguments
from mvp_mm.captioning.run import RunReport, caption_shard, make_manifest
from mvp_mm.datasets.captions.shards import Shard

_BATCHES_PER_WORKER = 8

ShardWork = Callable[[Shard], RunReport]


def make_parser(description: str, out: str, retry: str) -> argparse.ArgumentParser:
    """Make a parser with the options of every job: which images, which shards, where to.

    Args:
        description: What the command does.
        out: Help of ``--out``.
        retry: Help of ``--retry-failed``.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--images', help='folder of images')
    source.add_argument('--config', help='config with the dataset')
    parser.add_argument('--dataset', default='train_dataloader.dataset',
                        help='its name, or where it stands in the config')
    parser.add_argument('--out', required=True, help=out)
    add_shard_arguments(parser)
    parser.add_argument('--retry-failed', action='store_true', help=retry)
    return parser


@dataclass(frozen=True)
class CaptionJob:
    """Loads a VLM, or connects to its server, and gives what captions a shard.

    Args:
        args: Options of ``tools/data/auto_caption.py``.
    """

    args: argparse.Namespace

    def __call__(self) -> ShardWork:
        """Build the backend.

        Raises:
            CaptionerError: If there is no such model.
            OSError: If there are no such images.
            ValueError: If an option is wrong.
        """
        args = self.args
        sampling = CaptionSampling(args.max_tokens, args.temperature, args.top_p, args.seed,
                                   args.max_side)
        images = list_images(args)
        backend = self._backend(sampling)

        def work(shard: Shard) -> RunReport:
            manifest = make_manifest(args.captioner, backend, args.prompt, sampling, images.names,
                                     shard)
            return caption_shard(Path(args.out), manifest, images, backend,
                                 retry_failed=args.retry_failed,
                                 max_failures_in_a_row=args.max_failures_in_a_row)
        return work

    def _backend(self, sampling: CaptionSampling) -> CaptionBackend:
        args = self.args
        if args.endpoint:
            from mvp_mm.captioning.endpoint import EndpointBackend, Retries
            return EndpointBackend(
                args.endpoint, args.model, args.prompt, sampling, concurrency=args.concurrency,
                timeout=args.timeout, retries=Retries(args.attempts, args.first_wait),
                api_key=os.environ.get(args.api_key_variable))
        from mvp_mm.captioning.local import TransformersBackend
        return TransformersBackend(args.local, args.prompt, sampling, batch_size=args.batch_size,
                                   device=args.device, dtype=args.dtype)


@dataclass(frozen=True)
class AnswerJob:
    """Loads a trained model and gives what asks it about a shard.

    Args:
        args: Options of ``tools/answer_images.py``.
    """

    args: argparse.Namespace

    def __call__(self) -> ShardWork:
        """Load the model; raises as :class:`CaptionJob` does."""
        args = self.args
        images = list_images(args)
        question = dict(words=args.words, text=args.text, stuff=args.stuff, task=args.task,
                        thinking=args.thinking, threshold=args.threshold)
        backend = AnswerBackend(args.weights, args.device, question, args.batch_size,
                                args.workers, len(images.names))

        def work(shard: Shard) -> RunReport:
            manifest = make_manifest(args.name, backend, json.dumps(question), CaptionSampling(),
                                     images.names, shard)
            return caption_shard(Path(args.out), manifest, images, backend,
                                 retry_failed=args.retry_failed, line=answer_line, in_order=True)
        return work


def _as_dict(answer: Any) -> dict[str, Any]:
    return answer.to_dict()


class AnswerBackend:
    """Answers about images, as a captioner whose captions are answers as JSON.

    Args:
        weights: See :class:`mvp_mm.MVP`.
        device: Where the model runs; None takes a GPU where there is one.
        question: Arguments of a call of the model.
        batch_size: Images of a forward pass; None chooses as a call of the model does.
        workers: Worker processes; None chooses likewise.
        images: Number of images that there are.
    """

    name = 'mvp_mm'
    concurrency = 1

    def __init__(self, weights: str, device: str | None, question: dict[str, Any],
                 batch_size: int | None, workers: int | None, images: int) -> None:
        from mvp_mm.apis.mvp import MVP
        self.model = weights
        self.settings: dict[str, Any] = {}
        self._network = MVP(weights, device)
        plan = self._network.make_plan(batch_size, workers, images)
        self._question = dict(question, batch_size=batch_size, workers=plan.workers)
        # Workers are forked anew for each call.
        alone = plan.workers == 1
        self.batch_size = plan.batch_size * (1 if alone else _BATCHES_PER_WORKER * plan.workers)

    def caption(self, images: Sequence[Path]) -> list[Answer | Exception]:
        """See :class:`CaptionBackend`; goes on behind an unreadable image."""
        found: dict[Path, Answer | Exception] = {
            image: ImageError(f'No such image file: {image}')
            for image in images if not image.is_file()}
        while left := [image for image in images if image not in found]:
            try:
                for image, answer in zip(left, self._ask(left), strict=True):
                    found[image] = answer
            except ChildProcessError:
                raise
            except (OSError, ValueError) as error:
                unreadable = next(image for image in left if image not in found)
                found[unreadable] = ImageError(str(error))
        return [found[image] for image in images]

    def _ask(self, images: list[Path]) -> Iterator[Answer]:
        answers = self._network.stream(images, progress=False, finish=_as_dict, **self._question)
        text = self._question.get('text')
        each = 1 if text is None or isinstance(text, str) else len(text)
        while together := list(islice(answers, each)):
            yield Answer(json.dumps(together))

    def stop(self) -> None:
        """See :class:`CaptionBackend`; a batch under way is finished."""


def answer_line(image: str, answer: Answer) -> str:
    """Make the line of an image: its answers, one per sentence."""
    return f'{{"image": {json.dumps(image)}, "answers": {answer.text}}}\n'


def list_images(args: argparse.Namespace) -> ImageSet:
    """List the images that ``--images``, or ``--config`` and ``--dataset``, name."""
    if args.images:
        return images_of_folder(args.images)
    return images_of_dataset(args.config, args.dataset)
