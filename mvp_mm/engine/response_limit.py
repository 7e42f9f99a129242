# Copyright (c) mvp_mm authors. All rights reserved.
"""Compares the captions that training teaches with the room that testing gives them."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mvp_mm.engine.hooks import unwrap
from mvp_mm.registry import HOOKS


@HOOKS.register_module()
class ResponseLimitHook(Hook):
    """Tells before training how long the captions are, and whether they fit the response limit.

    ``model.max_response_tokens`` cuts what the model writes at test time. Where training captions
    are longer, the model learns to write what it is never allowed to finish. For each training
    dataset the captions of some images, spread over the dataset, are counted in tokens.

    Args:
        images: Images looked at of each dataset.
        share: Share of longer captions from which on a warning is given, with the limit to set.

    Raises:
        ValueError: If a number is out of its range.
    """

    def __init__(self, images: int = 500, share: float = 0.01) -> None:
        if images < 1 or not 0 <= share < 1:
            raise ValueError('ResponseLimitHook needs images >= 1 and 0 <= share < 1, got '
                             f'images={images!r}, share={share!r}')
        self.images = images
        self.share = share

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Log a line for each dataset with captions; warn where the limit cuts too many."""
        model = unwrap(runner.model)
        for dataset in _members(runner.train_dataloader.dataset):
            lengths = caption_lengths(dataset, model.tokenizer, self.images)
            if not len(lengths):
                continue
            needed = lengths + len(model.ending)
            limit = model.max_response_tokens
            longer = float((needed > limit).mean())
            middle, most = (int(np.ceil(np.quantile(needed, q))) for q in (0.5, 0.99))
            told = (f'{dataset.ann_file}: responses have {middle} tokens in the median, '
                    f'{most} at 99 %, at most {needed.max()} ({len(needed)} captions)')
            if longer > self.share:
                runner.logger.warning(
                    f'{told}; {longer:.1%} are longer than model.max_response_tokens={limit} '
                    f'lets a test write: set it to {most} or more')
            else:
                runner.logger.info(f'{told}; model.max_response_tokens={limit}')


def caption_lengths(dataset: Any, tokenizer: Any, images: int) -> np.ndarray:
    """Count the tokens of the captions that a dataset's responses are drawn from.

    Args:
        dataset: A dataset whose items have an ``annotation``.
        tokenizer: The instruction tokenizer.
        images: Images looked at, evenly spread over the dataset.

    Returns:
        (n,) int64, one length per caption; empty where no task writes any.
    """
    responses = [getattr(task, 'response', None) for task in getattr(dataset, 'tasks', ())]
    if not any(response is not None and response.draws_captions for response in responses):
        return np.zeros(0, dtype=np.int64)
    rows = np.linspace(0, len(dataset) - 1, min(images, len(dataset))).astype(int)
    captions = (caption for row in np.unique(rows)
                for caption in dataset.get_data_info(int(row))['annotation'].captions)
    return np.array([len(tokenizer.encode(caption)) for caption in captions], dtype=np.int64)


def _members(dataset: Any) -> Iterator[Any]:
    """Iterate the datasets that a concatenation or a join is made of."""
    parts = getattr(dataset, 'datasets', None) or getattr(dataset, 'members', None)
    if parts is None:
        yield dataset
        return
    for part in parts:
        yield from _members(part)
