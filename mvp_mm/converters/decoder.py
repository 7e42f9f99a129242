# Copyright (c) mvp_mm authors. All rights reserved.
"""DINO's decoder as MaskDINO, OpenSeeD and MVP-LM's authors name it, for ``DINODecoder``."""
from __future__ import annotations

from functools import partial

from torch import Tensor

from mvp_mm.converters.conversion import Rule

_LEVELS = 4


def flip_levels(rows: Tensor, points: int, values: int) -> Tensor:
    """Turn the order of the levels of a deformable attention's layer around.

    Their decoder reads the coarsest level first, ours the finest.

    Args:
        rows: (heads · levels · points · values, …) weight or bias.
        points: Points sampled per head and level.
        values: Numbers a point: 2 of an offset, 1 of an attention weight.

    Raises:
        ValueError: If the rows cannot be shared out so.
    """
    if rows.shape[0] % (_LEVELS * points * values):
        raise ValueError(f'{rows.shape[0]} rows of a deformable attention are no multiple of '
                         f'{_LEVELS} levels × {points} points × {values}')
    return rows.unflatten(0, (-1, _LEVELS, points, values)).flip(1).flatten(0, 3)


def decoder_rules(prefix: str, points: int) -> list[Rule]:
    """Rules for query selection, decoder, box and mask head.

    Args:
        prefix: Regular expression before the predictor's keys.
        points: Points that the decoder samples per head and level.
    """
    layer, ours = rf'{prefix}decoder\.layers\.(\d+)\.', r'perception.decoder.layers.\1.'
    cross = rf'{layer}cross_attn\.'
    # The box head is stored once a layer, and twice again.
    boxes = rf'{prefix}(?:_bbox_embed|(?:decoder\.)?bbox_embed\.\d+)\.layers\.'
    rules = [
        Rule(rf'{prefix}enc_output\.(\w+)', r'perception.query_generator.selection.project.0.\1'),
        Rule(rf'{prefix}enc_output_norm\.(\w+)',
             r'perception.query_generator.selection.project.1.\1'),
        Rule(rf'{layer}self_attn\.(.+)', rf'{ours}self_attention.\2'),
        Rule(rf'{cross}(sampling_offsets\.\w+)', rf'{ours}cross_attention.\2',
             partial(flip_levels, points=points, values=2)),
        Rule(rf'{cross}(attention_weights\.\w+)', rf'{ours}cross_attention.\2',
             partial(flip_levels, points=points, values=1)),
        Rule(rf'{cross}(.+)', rf'{ours}cross_attention.\2'),
        Rule(rf'{layer}linear1\.(\w+)', rf'{ours}feedforward.0.\2'),
        Rule(rf'{layer}linear2\.(\w+)', rf'{ours}feedforward.2.\2'),
        # Numbered in the order of DETR's layers, though self-attention comes first here too.
        Rule(rf'{layer}norm2\.(\w+)', rf'{ours}norm1.\2'),
        Rule(rf'{layer}norm1\.(\w+)', rf'{ours}norm2.\2'),
        Rule(rf'{layer}(norm3\.\w+)', rf'{ours}\2'),
        Rule(rf'{prefix}(?:decoder\.norm|decoder_norm)\.(\w+)', r'perception.decoder.norm.\1'),
    ]
    rules += _mlp_rules(rf'{prefix}decoder\.ref_point_head\.layers\.',
                        'perception.decoder.position.', 2)
    rules += _mlp_rules(boxes, 'perception.box_head.delta.', 3)
    rules += _mlp_rules(rf'{prefix}mask_embed\.layers\.', 'perception.mask_head.embedding.', 3)
    return rules


def text_rules(prefix: str) -> list[Rule]:
    """Rules for what MVP-LM's authors add: both sides of the similarity, and stuff queries.

    Args:
        prefix: Regular expression before the predictor's keys.
    """
    head = 'perception.similarity_head.'
    return [
        *_mlp_rules(rf'{prefix}CLASS_proj\.layers\.', f'{head}word.', 2),
        *_mlp_rules(rf'{prefix}SEG_proj\.layers\.', f'{head}sentence.', 2),
        Rule(r'class_name_projector\.(\w+)', r'perception.text_mlp.word.\1'),
        Rule(r'SEG_token_projector\.(\w+)', r'perception.text_mlp.sentence.\1'),
        Rule(r'stuff_query\.weight', 'perception.stuff.content'),
        Rule(r'stuff_embed\.weight', 'perception.stuff.boxes'),
    ]


def _mlp_rules(prefix: str, target: str, layers: int) -> list[Rule]:
    """Rules for linear layers with an activation between them, which ours counts too."""
    return [Rule(rf'{prefix}{i}\.(\w+)', rf'{target}{2 * i}.\1') for i in range(layers)]
