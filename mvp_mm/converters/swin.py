# Copyright (c) mvp_mm authors. All rights reserved.
"""Swin Transformer as Microsoft's, detectron2's and timm's code name it, for mmdet's."""
from __future__ import annotations

from torch import Tensor

from mvp_mm.converters.conversion import Rule


def reorder_merging(weight: Tensor) -> Tensor:
    """Columns of a patch merging layer, from slices of rows and columns to ``nn.Unfold``'s order.

    Four neighbours stand side by side in the input: the original concatenates whole neighbours,
    column by column (top left, bottom left, top right, bottom right); unfolding goes row by row
    and puts the neighbours of one channel together.

    Args:
        weight: (..., 4 C), a linear layer's weight or a norm's parameter.
    """
    neighbours = weight.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :]
    return neighbours.transpose(-1, -2).flatten(-2)


def swin_rules(prefix: str, target: str) -> list[Rule]:
    """Rules for a backbone.

    Args:
        prefix: Regular expression before its keys.
        target: Ours.
    """
    merging = rf'{prefix}layers\.(\d+)\.downsample\.'
    return [
        *_block_rules(prefix, target),
        Rule(rf'{merging}((?:reduction|norm)\.\w+)', rf'{target}stages.\1.downsample.\2',
             reorder_merging),
        Rule(rf'{prefix}(norm[0-3]\.\w+)', rf'{target}\1'),
    ]


def timm_swin_rules(target: str) -> list[Rule]:
    """Rules for timm's Swin, with classifier or as a feature extractor.

    timm merges patches at the beginning of a stage, not at the end of the one before, and norms
    the last stage alone.

    Args:
        target: Ours.
    """
    merging = [
        Rule(rf'layers[._]{stage}\.downsample\.((?:reduction|norm)\.\w+)',
             rf'{target}stages.{stage - 1}.downsample.\1', reorder_merging)
        for stage in (1, 2, 3)
    ]
    return [*_block_rules('', target), *merging, Rule(r'norm\.(\w+)', rf'{target}norm3.\1')]


def _block_rules(prefix: str, target: str) -> list[Rule]:
    block = rf'{prefix}layers[._](\d+)\.blocks\.(\d+)\.'
    ours = rf'{target}stages.\1.blocks.\2.'
    return [
        Rule(rf'{prefix}patch_embed\.proj\.(\w+)', rf'{target}patch_embed.projection.\1'),
        Rule(rf'{prefix}patch_embed\.norm\.(\w+)', rf'{target}patch_embed.norm.\1'),
        Rule(rf'{block}attn\.(.+)', rf'{ours}attn.w_msa.\3'),
        Rule(rf'{block}mlp\.fc1\.(\w+)', rf'{ours}ffn.layers.0.0.\3'),
        Rule(rf'{block}mlp\.fc2\.(\w+)', rf'{ours}ffn.layers.1.\3'),
        Rule(rf'{block}(norm[12]\.\w+)', rf'{ours}\3'),
    ]
