# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from mvp_mm.models.connectors.building import build_connector, connect
from mvp_mm.models.connectors.conv_connector import ConvConnector
from mvp_mm.models.connectors.mlp_connector import MLPConnector
from mvp_mm.models.connectors.pyramid_connector import PyramidConnector

__all__ = ['ConvConnector', 'MLPConnector', 'PyramidConnector', 'build_connector', 'connect']
