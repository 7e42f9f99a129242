# Copyright (c) mvp_mm authors. All rights reserved.
"""Makes random instructions and targets of usual lengths, to measure models without data."""
from __future__ import annotations

import numpy as np
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData

from mvp_mm.structures import PerceptionDataSample
from mvp_mm.tasks import PanopticTask, ReferringSegmentationTask

TOKENS_PER_PHRASE = 3
PROMPT_TOKENS = 24
RESPONSE_TOKENS = 24
OBJECTS = 6


def canvas_side(cfg: Config) -> int:
    """Return the side of a loaded config's canvas.

    Raises:
        ValueError: If the canvas is not square.
    """
    width, height = cfg.canvas
    if width != height:
        raise ValueError(f'canvas={(width, height)}: made-up images are square')
    return width


def make_samples(images: int, sentences: int, side: int, visual_tokens: int, vocab_size: int,
                 words: int = 12) -> list[PerceptionDataSample]:
    """Make a word list and some sentences per image, with box-shaped masks.

    Args:
        images: Number of images.
        sentences: Sentences per image.
        side: Side of the square canvas.
        visual_tokens: Visual tokens per image.
        vocab_size: Size of the vocabulary; the last id stands for ``<PER>``.
        words: Names in the word list.
    """
    rng = np.random.default_rng(0)
    panoptic, referring = PanopticTask(), ReferringSegmentationTask()
    samples = []
    for image in range(images):
        asked = [panoptic.ask(words=[f'phrase {index}' for index in range(words)])]
        asked += [referring.ask(text='the one on the left') for _ in range(sentences)]
        for request in asked:
            count = OBJECTS if request.instruction.kind == 'word' else 1
            corner = rng.uniform(0, side / 2, (count, 2))
            boxes = np.concatenate(
                [corner, corner + rng.uniform(side / 8, side / 2, (count, 2))], 1)
            y, x = np.mgrid[:side, :side]
            masks = ((x > boxes[:, 0, None, None]) & (x < boxes[:, 2, None, None])
                     & (y > boxes[:, 1, None, None]) & (y < boxes[:, 3, None, None]))
            sample = PerceptionDataSample(metainfo=dict(
                img_shape=(side, side), batch_input_shape=(side, side), image_index=image))
            sample.instruction = request.instruction
            labels = rng.integers(0, len(request.instruction.phrases), count)
            sample.gt_instances = InstanceData(
                bboxes=torch.from_numpy(boxes).float(), labels=torch.from_numpy(labels),
                masks=torch.from_numpy(masks))
            _fill_in_tokens(sample, visual_tokens, vocab_size, rng)
            samples.append(sample)
    return samples


def _fill_in_tokens(sample: PerceptionDataSample, visual_tokens: int, vocab_size: int,
                    rng: np.random.Generator) -> None:
    instruction = sample.instruction
    phrases = np.repeat(np.arange(len(instruction.phrases)), TOKENS_PER_PHRASE)
    outside = np.full(PROMPT_TOKENS + visual_tokens, -1)
    response = np.full(RESPONSE_TOKENS, -1)
    instruction.phrase_index = np.concatenate([outside, phrases, response])
    length = len(instruction.phrase_index)
    instruction.input_ids = rng.integers(0, vocab_size - 1, length)
    # Task text and visual tokens are the same for all instructions of a kind.
    instruction.input_ids[:PROMPT_TOKENS] = instruction.kind == 'word'
    instruction.input_ids[PROMPT_TOKENS:PROMPT_TOKENS + visual_tokens] = 0
    instruction.input_ids[-1] = vocab_size - 1
    instruction.labels = instruction.input_ids.copy()
    instruction.labels[:-RESPONSE_TOKENS] = -100
    instruction.prompt_length = length - RESPONSE_TOKENS
    instruction.image_start = PROMPT_TOKENS
