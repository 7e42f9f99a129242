# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from mvp_mm.datasets.transforms.canvas import PadToCanvas, Resize, ResizeToCanvas
from mvp_mm.datasets.transforms.color import ColorJitter
from mvp_mm.datasets.transforms.instructions import BuildInstructions, TokenizeRequests
from mvp_mm.datasets.transforms.loading import LoadImage, LoadPerceptionAnnotations
from mvp_mm.datasets.transforms.packing import PackPerceptionInputs
from mvp_mm.datasets.transforms.segment_map import SegmentMapMasks
from mvp_mm.datasets.transforms.view import ApplyView, DrawView

__all__ = [
    'ApplyView', 'BuildInstructions', 'ColorJitter', 'DrawView', 'LoadImage',
    'LoadPerceptionAnnotations', 'PackPerceptionInputs', 'PadToCanvas', 'Resize',
    'ResizeToCanvas', 'SegmentMapMasks', 'TokenizeRequests'
]
