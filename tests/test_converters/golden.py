# Copyright (c) mvp_mm authors. All rights reserved.
"""Tensors recorded from the authors' modules, where they are at hand."""
from __future__ import annotations

import os
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.helpers import ROOT

GOLDEN = Path(os.environ.get('MVP_MM_GOLDEN', ROOT.parent / 'shared' / 'golden'))
needs_golden = pytest.mark.skipif(
    not (GOLDEN / 'A_pixel_decoder.safetensors').is_file(),
    reason='recorded tensors not found; set MVP_MM_GOLDEN')


def load(name):
    """Tensors of one recording: inputs, weights, intermediates and outputs, each by name."""
    groups = {'in': {}, 'sd': {}, 'mid': {}, 'out': {}, 'grad': {}}
    for key, value in load_file(GOLDEN / f'{name}.safetensors').items():
        group, _, rest = key.partition('.')
        groups.setdefault(group, {})[rest] = value
    return groups
