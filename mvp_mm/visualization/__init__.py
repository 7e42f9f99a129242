# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from mvp_mm.visualization.drawing import contact_sheet
from mvp_mm.visualization.hook import PerceptionVisualizationHook
from mvp_mm.visualization.instruction_panel import instruction_panel
from mvp_mm.visualization.visualizer import PerceptionVisualizer

__all__ = ['PerceptionVisualizationHook', 'PerceptionVisualizer', 'contact_sheet',
           'instruction_panel']
