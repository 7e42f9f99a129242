# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from mvp_mm.export.graphs import EncodedImage, FoundQueries, Questions
from mvp_mm.export.onnx_export import export_onnx
from mvp_mm.export.onnx_session import OnnxSession, run_in_onnxruntime

__all__ = ['EncodedImage', 'FoundQueries', 'OnnxSession', 'Questions', 'export_onnx',
           'run_in_onnxruntime']
