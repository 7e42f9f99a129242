# Copyright (c) mvp_mm authors. All rights reserved.
"""The two halves of the model as modules of tensors alone, which an exporter can follow."""
from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mvp_mm.models import MVPLM
from mvp_mm.models.connectors import connect
from mvp_mm.models.perception import PerceptionHead
from mvp_mm.models.state import DecoderQueries, ImageState, InstructionBatch
from mvp_mm.ops import DeformableAttention
from mvp_mm.ops.deformable_attention import sample_with_torch

Shapes = tuple[tuple[int, int], ...]


class EncodedImage(NamedTuple):
    """What :class:`ImageGraph` gives, and :class:`PerceptionGraph` reads the last three of.

    Attributes:
        visual_tokens: (1, V, D) the image's tokens for the LLM.
        memory: (1, S, C) multi-scale tokens.
        mask_features: (1, C, H / s, W / s).
        padding_mask: (1, S) bool, True outside the image.
    """

    visual_tokens: Tensor
    memory: Tensor
    mask_features: Tensor
    padding_mask: Tensor


class Questions(NamedTuple):
    """R instructions about one image, of up to K phrases.

    Attributes:
        phrases: (R, K, D) the LLM's states, averaged over the tokens of each phrase.
        summary: (R, D) the LLM's state at ``<PER>``.
        phrase_mask: (R, K) bool, False where a row has fewer phrases.
        is_thing: (R, K) bool.
        is_word: (R,) bool, False for sentences.
        use_stuff: (R,) bool, whether the stuff queries answer too.
    """

    phrases: Tensor
    summary: Tensor
    phrase_mask: Tensor
    is_thing: Tensor
    is_word: Tensor
    use_stuff: Tensor

    @classmethod
    def of(cls, batch: InstructionBatch, pooled: Tensor, summary: Tensor) -> Questions:
        """Take what the graph reads of a batch; pooled (R, K, D) and summary (R, D)."""
        return cls(pooled, summary, batch.phrase_mask, batch.is_thing, batch.is_word,
                   batch.use_stuff)


class FoundQueries(NamedTuple):
    """What :class:`PerceptionGraph` finds with Q queries; the last ones are the stuff queries.

    Attributes:
        logits: (R, Q, K + 1) similarities, the last column "no object".
        boxes: (R, Q, 4) cxcywh in [0, 1] of the canvas.
        masks: (R, Q, H / s, W / s) logits.
        states: (R, Q, C) the queries themselves, or (R, Q, 2 C) with their surroundings.
    """

    logits: Tensor
    boxes: Tensor
    masks: Tensor
    states: Tensor


class OneImage:
    """Packs the queries of R instructions about one image, as ``QueriesPerImage`` does for many."""

    def __init__(self, image_index: Tensor) -> None:
        self.image_index = image_index

    def pack(self, rows: Tensor) -> Tensor:
        """(R, Q, …) → (1, R·Q, …)."""
        return rows.flatten(0, 1)[None]

    def unpack(self, packed: Tensor) -> Tensor:
        """(1, R·Q, …) → (R, Q, …)."""
        return packed[0].unflatten(0, (self.image_index.shape[0], -1))


class GridSampleAttention(DeformableAttention):
    """Runs deformable attention by ``grid_sample`` alone, over maps of known sizes.

    Args:
        attention: The attention whose parameters it takes over.
        shapes: (height, width) of each level.
    """

    def __init__(self, attention: DeformableAttention, shapes: Shapes) -> None:
        super().__init__(attention.embed_dims, attention.num_heads, attention.num_levels,
                         attention.num_points)
        self.load_state_dict(attention.state_dict())
        self.shapes = shapes

    def forward(self, query: Tensor, value: Tensor, reference: Tensor, spatial_shapes: Tensor,
                level_start_index: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """See :meth:`DeformableAttention.forward`; the shapes are those of the constructor."""
        value = self.value_proj(value)
        if padding_mask is not None:
            value = value.masked_fill(padding_mask[..., None], 0.0)
        value = value.unflatten(-1, (self.num_heads, -1))
        locations, weights = self._points(query, reference, spatial_shapes)
        return self.output_proj(sample_with_torch(value, self.shapes, locations, weights))


def with_grid_sample(part: nn.Module, shapes: Shapes) -> nn.Module:
    """Copy a part of the model, with every deformable attention as ``grid_sample``.

    Raises:
        ValueError: If an attention is of another type than ours.
    """
    part = copy.deepcopy(part).eval().requires_grad_(False)
    for name, module in list(part.named_modules()):
        if type(module) is DeformableAttention:
            parent = part.get_submodule(name.rpartition('.')[0])
            setattr(parent, name.rpartition('.')[2], GridSampleAttention(module, shapes).eval())
        elif name.rpartition('.')[2] in ('attention', 'cross_attention'):
            raise ValueError(f'{type(module).__name__} ({name}) cannot be exported: build the '
                             "model with attention_type='DeformableAttention'")
    return part


class ImageGraph(nn.Module):
    """Encoder, connector and pixel decoder: what is computed once per image.

    Args:
        model: The model.
        shapes: Sizes of the memory's levels.
    """

    def __init__(self, model: MVPLM, shapes: Shapes) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(model.encoder).eval().requires_grad_(False)
        self.connector = copy.deepcopy(model.connector).eval().requires_grad_(False)
        self.pixel_decoder = with_grid_sample(model.pixel_decoder, shapes)

    def forward(self, image: Tensor, extent: Tensor) -> EncodedImage:
        """Encode an image.

        Args:
            image: (1, 3, H, W) normalised RGB on the canvas.
            extent: (1, 2) width and height of the image as shares of the canvas.
        """
        features = self.encoder(image)
        maps = self.pixel_decoder(features, extent)
        return EncodedImage(connect(self.connector, features), maps['memory'],
                            maps['mask_features'].contiguous(), maps['padding_mask'])


class PerceptionGraph(nn.Module):
    """Query generation, decoder and heads: what is computed per instruction.

    The stuff queries always take part in the graph. Rows that have no use for them ignore them:
    there no other query attends to them.

    Args:
        head: The perception head.
        shapes: Sizes of the memory's levels.
    """

    def __init__(self, head: PerceptionHead, shapes: Shapes) -> None:
        super().__init__()
        self.head = with_grid_sample(head, shapes)
        self.shapes = shapes

    def forward(self, memory: Tensor, mask_features: Tensor, padding_mask: Tensor, phrases: Tensor,
                summary: Tensor, phrase_mask: Tensor, is_thing: Tensor, is_word: Tensor,
                use_stuff: Tensor) -> FoundQueries:
        """Answer R instructions; see :class:`EncodedImage` and :class:`Questions`."""
        sizes = torch.tensor(self.shapes)
        state = ImageState(None, memory, mask_features, padding_mask, sizes, None,
                           list(self.shapes))
        batch = self._batch(phrase_mask, is_thing, is_word, use_stuff)
        per_image = OneImage(batch.image_index)
        text = self.head.embed_text(phrases, batch)
        generated = self.head.generate_queries(state, batch, text.content, summary, per_image)
        queries = self._with_stuff(generated.content, generated.boxes, use_stuff)
        states, boxes = self.head.decoder(queries.content, queries.boxes, queries.allowed, state,
                                          per_image, self.head.box_head)
        states, boxes = states[-1], boxes[-1]
        masks = torch.einsum('rqc,chw->rqhw', self.head.mask_head(states), mask_features[0])
        states = self.head.describe(states, boxes, state, per_image)
        return FoundQueries(self.head.similarity_head(states, boxes, text), boxes, masks, states)

    def _with_stuff(self, content: Tensor, boxes: Tensor, use_stuff: Tensor) -> DecoderQueries:
        stuff, rows, dynamic = self.head.stuff, *content.shape[:2]
        content = torch.cat([content, stuff.content.expand(rows, -1, -1)], 1)
        boxes = torch.cat([boxes, stuff.boxes.sigmoid().expand(rows, -1, -1)], 1)
        valid = torch.cat([torch.ones_like(use_stuff)[:, None].expand(-1, dynamic),
                           use_stuff[:, None].expand(-1, len(stuff.content))], 1)
        itself = torch.eye(content.shape[1], dtype=torch.bool)
        return DecoderQueries(content, boxes, valid[:, None, :] | itself, valid)

    def _batch(self, phrase_mask: Tensor, is_thing: Tensor, is_word: Tensor,
               use_stuff: Tensor) -> InstructionBatch:
        """The instructions without their tokens, which the LLM has read."""
        first = torch.zeros_like(is_word, dtype=torch.int64)
        nothing = phrase_mask.new_zeros(0)
        return InstructionBatch(
            ids=nothing, mask=nothing, phrase_index=nothing, labels=nothing, image_start=first,
            image_index=first, phrase_mask=phrase_mask, is_thing=is_thing, is_word=is_word,
            use_stuff=use_stuff, needs_decoder=torch.ones_like(is_word), per_position=first)
