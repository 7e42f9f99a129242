# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from mvp_mm.models.connectors.conv_connector import ConvConnector
from mvp_mm.models.connectors.mlp_connector import MLPConnector

__all__ = ['ConvConnector', 'MLPConnector']
