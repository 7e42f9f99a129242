# Copyright (c) mvp_mm authors. All rights reserved.
"""Runs exported graphs in onnxruntime, alone or in the place of the model's own modules."""
from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mvp_mm.export.graphs import EncodedImage, FoundQueries, Questions
from mvp_mm.models import MVPLM
from mvp_mm.models.heads import DecodedQueries
from mvp_mm.models.state import ImageState, InstructionBatch, image_extent
from mvp_mm.structures import PerceptionDataSample

IMAGE, PERCEPTION, SETTINGS = 'image.onnx', 'perception.onnx', 'onnx.json'
FORMAT = 'mvp_mm onnx 1'
EXTRA = 'pip install "mvp_mm[onnx]"'
# Of onnxruntime's log: errors, not that a constant is folded later.
_ERRORS = 3


class OnnxSession:
    """The two graphs of an exported folder.

    Args:
        folder: Written by :func:`~mvp_mm.export.export_onnx`.
        providers: Execution providers of onnxruntime, in order of preference.

    Attributes:
        settings: ``onnx.json``: ``canvas`` [H, W], ``mean``, ``std`` and more.

    Raises:
        ImportError: If onnxruntime is not installed.
        FileNotFoundError: If a file is missing.
        ValueError: If the folder is of another format.
    """

    def __init__(self, folder: str | Path,
                 providers: Sequence[str] = ('CPUExecutionProvider',)) -> None:
        folder = Path(folder)
        for name in (SETTINGS, IMAGE, PERCEPTION):
            if not (folder / name).is_file():
                raise FileNotFoundError(f'{folder} is no exported model: it has no {name}')
        try:
            self.settings: dict[str, Any] = json.loads((folder / SETTINGS).read_bytes())
            found = self.settings['format']
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f'{folder / SETTINGS} does not describe an exported model') from error
        if found != FORMAT:
            raise ValueError(f'{folder / SETTINGS}: format {found!r}, not {FORMAT!r}')
        self._image, self._perception = (
            open_session(folder / name, providers) for name in (IMAGE, PERCEPTION))

    def encode(self, image: np.ndarray, extent: np.ndarray) -> EncodedImage:
        """Encode an image; arguments of :meth:`ImageGraph.forward` and result as arrays."""
        return EncodedImage(*self._image.run(None, dict(image=image, extent=extent)))

    def perceive(self, encoded: EncodedImage, questions: Questions) -> FoundQueries:
        """Answer questions about an encoded image; all arrays."""
        inputs = {**encoded._asdict(), **questions._asdict()}
        del inputs['visual_tokens']
        return FoundQueries(*self._perception.run(None, inputs))


def open_session(path: Path, providers: Sequence[str]) -> Any:
    """Open a graph in onnxruntime.

    Raises:
        ImportError: If onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(f'Exported graphs run in onnxruntime: {EXTRA}') from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS
    return onnxruntime.InferenceSession(str(path), options, providers=list(providers))


def run_in_onnxruntime(model: MVPLM, session: OnnxSession) -> None:
    """Let a model encode images and decode queries in onnxruntime; the LLM stays in torch.

    Args:
        model: The model that was exported; its :meth:`~MVPLM.encode` and its perception head's
            ``decode`` are replaced, for prediction alone.
        session: The exported graphs.
    """
    device = next(model.parameters()).device

    def encode(images: Tensor, samples: list[PerceptionDataSample],
               perceive: bool = True) -> ImageState:
        canvas = session.settings['canvas']
        if list(images.shape[-2:]) != canvas:
            raise ValueError(f'The graphs were exported for a canvas of {canvas}, the images have '
                             f'{list(images.shape[-2:])}')
        extent = image_extent(images, samples)
        found = [session.encode(_array(images[b:b + 1]), _array(extent[b:b + 1]))
                 for b in range(len(images))]
        tensors = (torch.from_numpy(np.concatenate(x)).to(device)
                   for x in zip(*found, strict=True))
        return ImageState(**EncodedImage(*tensors)._asdict())

    def decode(state: ImageState, batch: InstructionBatch, pooled: Tensor,
               summary: Tensor) -> DecodedQueries:
        questions = Questions.of(batch, pooled, summary)
        rows = [(batch.image_index == b).nonzero()[:, 0] for b in range(len(state.memory))]
        found = [_perceive(session, state, b, Questions(*(x[at] for x in questions)))
                 for b, at in enumerate(rows) if len(at)]
        order = torch.cat(rows).argsort()
        joined = FoundQueries(*(
            torch.from_numpy(np.concatenate(x)).to(device)[order]
            for x in zip(*found, strict=True)))
        return DecodedQueries(joined.states, joined.boxes, joined.masks,
                              model.perception.embed_text(pooled, batch))

    model.encode, model.perception.decode = encode, decode


def _perceive(session: OnnxSession, state: ImageState, index: int,
              questions: Questions) -> FoundQueries:
    """Answer questions (tensors) about one image of a state."""
    one = EncodedImage(*(_array(getattr(state, name)[index:index + 1])
                         for name in EncodedImage._fields))
    return session.perceive(one, Questions(*map(_array, questions)))


def _array(values: Tensor) -> np.ndarray:
    values = values.detach().cpu()
    return (values.float() if values.is_floating_point() else values).contiguous().numpy()
