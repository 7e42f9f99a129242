# Copyright (c) mvp_mm authors. All rights reserved.
"""mvp_mm: versatile perception with a visual LLM (MVP-LM, arXiv 2507.16213)."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mvp_mm.utils.cores import sleep_while_waiting
from mvp_mm.utils.mmcv_operators import allow_missing_operators
from mvp_mm.utils.noise import silence_warnings
from mvp_mm.version import __version__

if TYPE_CHECKING:
    from mvp_mm.apis import MVP

silence_warnings()
sleep_while_waiting()
allow_missing_operators()

__all__ = ['MVP', '__version__']


def __getattr__(name: str) -> Any:
    """Import the model class when it is first used: it takes torch and transformers along."""
    if name == 'MVP':
        from mvp_mm.apis import MVP

        return MVP
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
