# Copyright (c) mvp_mm authors. All rights reserved.
"""The model as in the authors' released code."""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mvp_mm.models.language import insert_visual_tokens, pool_phrases
from mvp_mm.models.mvp_lm import MVPLM
from mvp_mm.models.state import ImageState, InstructionBatch
from mvp_mm.registry import MODELS
from mvp_mm.structures import Answering, PerceptionDataSample
from mvp_mm.tokenization.released import ReleasedTokenizer


@MODELS.register_module()
class ReleasedMVPLM(MVPLM):
    """Differs from :class:`MVPLM` in how the LLM is read.

    - Phrases are pooled from the plain mean of all hidden states, the input embedding included.
    - The summary token is a place of zeros in the LLM's input. Nothing reads its state.

    Args:
        **parts: See :class:`MVPLM`.

    Raises:
        ValueError: If the LLM does not keep every hidden state, or the tokenizer adds no
            background.
    """

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        every = tuple(range(self.llm.lm.config.num_hidden_layers + 1))
        if self.llm.kept_layers != every:
            raise ValueError(f'ReleasedMVPLM needs llm.kept_layers={every}, got '
                             f'{self.llm.kept_layers}')
        if not isinstance(self.tokenizer, ReleasedTokenizer):
            raise ValueError('ReleasedMVPLM needs ReleasedTokenizer: the last phrase of a word '
                             f'list is the background; got {type(self.tokenizer).__name__}')

    def embed_inputs(self, state: ImageState, batch: InstructionBatch) -> Tensor:
        """Embed the tokens (R, T, D), with zeros in the place of the summary token."""
        silent = batch.ids == self.per_id
        embeds = self.llm.embed(batch.ids).masked_fill(silent[..., None], 0.0)
        return insert_visual_tokens(embeds, state.visual_tokens, batch)

    def pool_text(self, states: list[Tensor], batch: InstructionBatch) -> Tensor:
        """Pool the phrases (R, K, D) from the mean of all hidden states."""
        mean = torch.stack(states).mean(0)
        return pool_phrases([mean], batch.phrase_index, batch.phrase_mask.shape[1])

    def predict(self, inputs: Tensor | None, data_samples: list[PerceptionDataSample],
                thinking: bool | None = None, answering: Answering | None = None,
                state: ImageState | None = None) -> list[PerceptionDataSample]:
        """See :meth:`MVPLM.predict`.

        Raises:
            ValueError: If a word list is asked in parts, each of which would have a background.
        """
        for sample in data_samples:
            if sample.instruction.parts:
                name = type(sample.task_object).__name__
                raise ValueError(f'{name}: the word list is too long; the released variant '
                                 'cannot ask it in parts')
        return super().predict(inputs, data_samples, thinking, answering, state)
