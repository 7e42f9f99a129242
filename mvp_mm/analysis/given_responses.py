# Copyright (c) mvp_mm authors. All rights reserved.
"""Answer with responses that are given, not written by the model."""
from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch

from mvp_mm.models import MVPLM
from mvp_mm.models.state import InstructionBatch
from mvp_mm.models.vocabulary_parts import LLMRows
from mvp_mm.structures import PerceptionDataSample
from mvp_mm.tasks.prompts import perception_response


@torch.no_grad()
def answer_given(model: MVPLM, batch: dict[str, list],
                 captions: Sequence[str]) -> list[PerceptionDataSample]:
    """Answer a batch as if the LLM had written some captions.

    The steps are those of :meth:`MVPLM.predict`; the response is appended as in training.

    Args:
        model: The model, in evaluation mode.
        batch: From a data loader.
        captions: One per sample, in the order of the batch; empty for the result alone.

    Returns:
        Copies of the samples with predictions.

    Raises:
        ValueError: If the numbers differ, a task answers without the decoder, or a word list is
            asked in parts.
    """
    groups = [[_copied(sample) for sample in group] for group in batch['data_samples']]
    given = iter(captions)
    for sample in (sample for group in groups for sample in group):
        caption = next(given, None)
        if caption is None:
            raise ValueError(f'{len(captions)} captions for more samples')
        if sample.instruction.parts or not sample.instruction.needs_decoder:
            raise ValueError(f'task {sample.instruction.task}: a response can be given to one '
                             'prompt whose answer the decoder makes')
        sample.instruction.response = perception_response(caption)
        model.tokenizer.tokenize(sample.instruction)
        sample.pred_caption = caption
    if next(given, None) is not None:
        raise ValueError(f'{len(captions)} captions for fewer samples')
    data = model.data_preprocessor(dict(inputs=batch['inputs'], data_samples=groups), False)
    return _answer(model, **data)


def _copied(sample: PerceptionDataSample) -> PerceptionDataSample:
    copied = sample.new()
    copied.instruction = replace(copy.copy(sample.instruction))
    return copied


def _answer(model: MVPLM, inputs: torch.Tensor,
            data_samples: list[PerceptionDataSample]) -> list[PerceptionDataSample]:
    state = model.encode(inputs, data_samples)
    rows = LLMRows(data_samples)
    batch = InstructionBatch.collate(rows.rows, inputs.device, model.per_id)
    _, language = model.forward_llm(state, batch)
    found = model.perception.decode(state, batch, language.text, language.summary)
    raws = rows.raw_predictions(found, model.perception.similarity_head,
                                model.perception.num_queries)
    for sample, raw in zip(data_samples, raws, strict=True):
        raw.answering = model.answering
        raw.caption = sample.pred_caption
        sample.response_forced = False
        sample.task_object.decode(raw, sample)
    return data_samples
