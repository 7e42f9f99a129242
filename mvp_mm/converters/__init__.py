# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from mvp_mm.converters.conversion import Conversion, Rule, convert
from mvp_mm.converters.layouts import Layout, convert_layout
from mvp_mm.utils.checkpoint_io import read_weights

__all__ = ['Conversion', 'Layout', 'Rule', 'convert', 'convert_layout', 'read_weights']
