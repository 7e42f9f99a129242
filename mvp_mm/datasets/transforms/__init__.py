# Copyright (c) mvp_mm authors. All rights reserved.
from mvp_mm.datasets.transforms.canvas import PadToCanvas
from mvp_mm.datasets.transforms.instructions import BuildInstructions, TokenizeRequests
from mvp_mm.datasets.transforms.loading import LoadPerceptionAnnotations
from mvp_mm.datasets.transforms.packing import PackPerceptionInputs

__all__ = [
    'BuildInstructions', 'LoadPerceptionAnnotations', 'PackPerceptionInputs', 'PadToCanvas',
    'TokenizeRequests'
]
