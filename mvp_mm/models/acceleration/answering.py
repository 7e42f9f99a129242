# Copyright (c) mvp_mm authors. All rights reserved.
"""Makes a model answer faster without changing its code: low precision, graphs, folded norms."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mvp_mm.models.acceleration.captured_text import CapturedRunner
from mvp_mm.models.acceleration.folding import fold_batch_norms
from mvp_mm.models.acceleration.graphs import CapturedFunction
from mvp_mm.models.heads import DecodedQueries, TextEmbeddings
from mvp_mm.models.llms import CausalLM
from mvp_mm.models.llms.building import check_block_mask
from mvp_mm.models.mvp_lm import MVPLM
from mvp_mm.models.perception import PerceptionHead
from mvp_mm.models.state import HostRows, ImageState, InstructionBatch

PHRASE_STEP = 16
# Side of the image that shows how an encoder's layers follow each other.
_EXAMPLE_SIDE = 128


def accelerate_answers(model: MVPLM, weights: torch.dtype | None = None,
                       graphs: bool | None = None, fold: bool = True) -> None:
    """Prepare a model for answers alone, in place; it must not train afterwards.

    Args:
        model: On its device, in eval mode.
        weights: Hold and run encoder and LLM in this precision, such as ``torch.bfloat16``, which
            must be autocast's around the calls; None leaves them as they are.
        graphs: Replay encoder, connector, pixel decoder, LLM and perception decoder as CUDA
            graphs, one per size of their inputs; None where the model is on a CUDA device. True
            on the CPU makes the same calls without graphs, which is for tests.
        fold: Fold the batch norms of the encoder into its convolutions.

    Raises:
        ValueError: If the model trains, or its LLM does not attend to whole sequences.
    """
    if model.training:
        raise ValueError('accelerate_answers needs a model in eval mode')
    device = next(model.parameters()).device
    if fold and any(isinstance(part, nn.BatchNorm2d) for part in model.encoder.backbone.modules()):
        example = torch.rand(1, 3, _EXAMPLE_SIDE, _EXAMPLE_SIDE, device=device)
        fold_batch_norms(model.encoder.backbone, example)
    if weights is not None:
        convert(model.encoder.backbone, weights)
        convert_llm(model.llm, weights)
    if not (device.type == 'cuda' if graphs is None else graphs):
        return
    check_block_mask(model.llm.lm.config, 'accelerate_answers')
    for part in (model.encoder, model.connector, model.pixel_decoder):
        part.forward = CapturedFunction(part.forward)
    model.llm.runner = CapturedRunner(model.llm)
    if type(model.perception) is PerceptionHead:
        model.perception.decode = CapturedDecoder(model.perception.decode)


def convert(part: nn.Module, dtype: torch.dtype) -> None:
    """Hold a part's weights in a precision and run it in that alone, outside of autocast."""
    part.to(dtype)
    part.forward = _without_autocast(part.forward, dtype)


def convert_llm(llm: CausalLM, dtype: torch.dtype) -> None:
    """Hold an LLM in a precision and run it in that alone, outside of autocast."""
    llm.lm.to(dtype)
    for method in ('run', 'logits'):
        setattr(llm, method, _without_autocast(getattr(llm, method), dtype))


def _without_autocast(function: Callable[..., Any], dtype: torch.dtype) -> Callable[..., Any]:
    """Cast a function's first argument and run it as written."""
    def run(first: Tensor, *args: Any, **kwargs: Any) -> Any:
        with torch.autocast(first.device.type, enabled=False):
            return function(first.to(dtype), *args, **kwargs)

    return run


class CapturedDecoder:
    """Replays :meth:`PerceptionHead.decode` as a graph; phrases are padded to a round number.

    Args:
        decode: The head's method.
    """

    def __init__(self, decode: Callable[..., DecodedQueries]) -> None:
        self._decode = decode
        self._captured = CapturedFunction(self._run)

    def __call__(self, state: ImageState, batch: InstructionBatch, pooled: Tensor,
                 summary: Tensor) -> DecodedQueries:
        """See :meth:`PerceptionHead.decode`."""
        host = batch.host
        if torch.is_grad_enabled() or host is None:
            return self._decode(state, batch, pooled, summary)
        more = -pooled.shape[1] % PHRASE_STEP
        image = (state.memory, state.mask_features, state.padding_mask, state.spatial_shapes,
                 state.level_start_index)
        rows = dict(
            phrase_mask=F.pad(batch.phrase_mask, (0, more)),
            is_thing=F.pad(batch.is_thing, (0, more)), image_index=batch.image_index,
            is_word=batch.is_word, use_stuff=batch.use_stuff, needs_decoder=batch.needs_decoder)
        states, boxes, masks, text = self._captured(
            image, tuple(state.shapes), rows, tuple(host.image_index), batch.any_stuff,
            F.pad(pooled, (0, 0, 0, more)), summary)
        content, relation, mask, surroundings = (
            None if x is None else x[:, :pooled.shape[1]] for x in text)
        return DecodedQueries(states, boxes, masks, TextEmbeddings(
            content, relation, mask, batch.is_word, surroundings))

    def _run(self, image: tuple[Tensor, ...], shapes: tuple[tuple[int, int], ...],
             rows: dict[str, Tensor], image_index: tuple[int, ...], any_stuff: bool,
             pooled: Tensor, summary: Tensor) -> tuple:
        memory, mask_features, padding_mask, spatial_shapes, starts = image
        state = ImageState(None, memory, mask_features, padding_mask, spatial_shapes, starts,
                           list(shapes))
        # The head reads no tokens: of those the batch has none.
        none = rows['image_index'].new_zeros(len(image_index), 0)
        batch = InstructionBatch(
            ids=none, mask=none, phrase_index=none, labels=none, image_start=none,
            per_position=none, host=HostRows(None, list(image_index), [any_stuff], None), **rows)
        found = self._decode(state, batch, pooled, summary)
        text = found.text
        return found.states, found.boxes, found.masks, (
            text.content, text.relation, text.mask, text.surroundings)
