# Copyright (c) mvp_mm authors. All rights reserved.
"""Connectors between encoder and LLM, from ``mm_projector.bin`` or a whole checkpoint."""
from __future__ import annotations

from mvp_mm.converters.conversion import Rule

_PREFIX = r'(?:model\.)?mm_projector\.'
_BLOCK = rf'{_PREFIX}layer1\.0\.'


def connector_rules() -> list[Rule]:
    """Rules for the released convolution block and for LLaVA's two-layer MLP.

    LLaVA's has no norm before its first layer; ours keeps its own there.
    """
    return [
        Rule(rf'{_BLOCK}((?:conv|bn)[12]\.\w+)', r'connector.\1'),
        Rule(rf'{_BLOCK}downsample\.([01]\.\w+)', r'connector.shortcut.\1'),
        Rule(rf'{_PREFIX}fc\.(\w+)', r'connector.linear.\1'),
        Rule(rf'{_PREFIX}0\.(\w+)', r'connector.mlp.1.\1'),
        Rule(rf'{_PREFIX}2\.(\w+)', r'connector.mlp.3.\1'),
    ]
