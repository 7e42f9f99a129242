# Copyright (c) mvp_mm authors. All rights reserved.
"""Samples answers to referring sentences: the response is written, then a query is chosen."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_convert, box_iou

from mvp_mm.models import MVPLM
from mvp_mm.models.heads import DecodedQueries
from mvp_mm.models.language import LanguageOutput
from mvp_mm.models.llms.sampling import Sampling
from mvp_mm.models.state import ImageState, InstructionBatch
from mvp_mm.structures import PerceptionDataSample


def referring_rows(samples: Sequence[PerceptionDataSample]) -> list[int]:
    """Find the samples that ask a sentence with exactly one target."""
    return [index for index, sample in enumerate(samples)
            if sample.instruction.kind == 'sentence' and sample.instruction.needs_decoder
            and len(sample.gt_instances) == 1]


@torch.no_grad()
def write(model: MVPLM, state: ImageState, prompts: InstructionBatch,
          sampling: Sampling | None) -> LanguageOutput:
    """Write one response per prompt; ``sampling`` None writes the most probable tokens."""
    before = model.llm.sampling
    model.llm.sampling = sampling
    try:
        return model.generate_then_read(state, prompts)
    finally:
        model.llm.sampling = before


def with_responses(prompts: InstructionBatch, tokens: Sequence[Tensor]) -> InstructionBatch:
    """Append a response to each right-padded prompt, as training has it.

    Args:
        prompts: R prompts without responses.
        tokens: R responses; ``labels`` are these tokens at their positions.
    """
    most, grown = max(map(len, tokens)), {}
    for name, fill in (('ids', 0), ('mask', False), ('phrase_index', -1), ('labels', -100)):
        grown[name] = F.pad(getattr(prompts, name), (0, most), value=fill)
    start = prompts.mask.sum(1)
    for row, (first, written) in enumerate(zip(start.tolist(), tokens, strict=True)):
        at = slice(first, first + len(written))
        grown['ids'][row, at] = grown['labels'][row, at] = written
        grown['mask'][row, at] = True
    lengths = start.new_tensor([len(written) for written in tokens])
    return replace(prompts, **grown, per_position=start + lengths - 1, host=None)


def response_log_prob(model: MVPLM, hidden: Tensor, labels: Tensor, forced: Sequence[bool],
                      temperature: float) -> Tensor:
    """Average the log-probability of the sampled tokens of each response.

    Args:
        model: The model.
        hidden: (R, T, D) last-layer states.
        labels: (R, T) of :func:`with_responses`.
        forced: Rows whose ending was not sampled and does not count.
        temperature: That of the sampling.

    Returns:
        (R,); zero where nothing was sampled.
    """
    wanted = F.pad(labels[:, 1:], (0, 1), value=-100)
    counted = wanted != -100
    behind = counted.flip(1).cumsum(1).flip(1)    # tokens from here to the end
    counted &= (behind > len(model.ending)) | ~torch.tensor(forced, device=labels.device)[:, None]
    row, column = counted.nonzero(as_tuple=True)
    logits = model.llm.logits(hidden[row, column])[:, :model.tokenizer.vocab_size].float()
    taken = (logits / temperature).log_softmax(-1).gather(1, wanted[row, column][:, None])[:, 0]
    total = taken.new_zeros(len(labels)).index_add(0, row, taken)
    return total / counted.sum(1).clamp(min=1)


def query_logits(model: MVPLM, found: DecodedQueries) -> Tensor:
    """Compute the logits (R, N) of the dynamic queries for R sentences."""
    logits = model.perception.similarity_head(found.states, found.boxes, found.text)
    return logits[:, :model.perception.num_queries, 0].float()


@torch.no_grad()
def query_rewards(found: DecodedQueries, samples: Sequence[PerceptionDataSample], count: int,
                  kind: str) -> Tensor:
    """Compute the IoU of each query's answer with the target, on the canvas.

    Args:
        found: Decoded queries of R sentences.
        samples: The R samples; ``gt_instances`` hold the target.
        count: N, the first queries of each row that are rewarded.
        kind: ``'box'`` or ``'mask'``.

    Returns:
        (R, N) in [0, 1].
    """
    rewards = []
    for boxes, masks, sample in zip(found.boxes, found.masks, samples, strict=True):
        height, width = sample.batch_input_shape[:2]
        truth = sample.gt_instances
        if kind == 'box':
            scale = boxes.new_tensor([width, height, width, height])
            corners = box_convert(boxes[:count].float(), 'cxcywh', 'xyxy') * scale
            rewards.append(box_iou(corners, truth.bboxes.to(corners))[:, 0])
        else:
            full = F.interpolate(masks[None, :count].float(), size=(height, width),
                                 mode='bilinear', align_corners=False)[0] > 0
            target = torch.as_tensor(truth.masks).to(full.device)[0].bool()
            shared = (full & target).flatten(1).sum(1)
            rewards.append(shared / (full | target).flatten(1).sum(1).clamp(min=1))
    return torch.stack(rewards)
