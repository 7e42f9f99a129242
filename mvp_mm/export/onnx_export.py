# Copyright (c) mvp_mm authors. All rights reserved.
"""Exports the model without its LLM to ONNX and compares the graphs with the model."""
from __future__ import annotations

import contextlib
import importlib.metadata
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mvp_mm.export.graphs import (
    EncodedImage,
    FoundQueries,
    ImageGraph,
    PerceptionGraph,
    Questions,
)
from mvp_mm.export.onnx_session import (
    EXTRA,
    FORMAT,
    IMAGE,
    PERCEPTION,
    SETTINGS,
    OnnxSession,
)
from mvp_mm.models import MVPLM
from mvp_mm.utils.atomic import write_text

TOLERANCE = 1e-3
# GridSample and LayerNormalization as single operators.
OPSET = 20
# Rows and phrases of the questions that are compared; the graph is traced with the first.
_SIZES = ((3, 5), (1, 1), (2, 7))


@torch.no_grad()
def export_onnx(model: MVPLM, folder: str | Path, canvas: tuple[int, int]) -> dict[str, float]:
    """Write ``image.onnx``, ``perception.onnx`` and ``onnx.json``, and compare them with the model.

    ``image.onnx`` is encoder, connector and pixel decoder; ``perception.onnx`` is query
    generation, decoder and heads, for any number of instructions and of phrases. The LLM is in
    neither: its states, for prompts that end in "The perception result is ``<PER>``" (thinking
    off), are inputs of the second. :class:`EncodedImage`, :class:`Questions` and
    :class:`FoundQueries` name inputs and outputs.

    Args:
        model: The model in eval mode, on any device; it is not changed.
        folder: Its files of these names must not be there yet.
        canvas: (H, W) of the images.

    Returns:
        The largest difference of each output between onnxruntime and torch on random inputs;
        relative where a value is above 1.

    Raises:
        ImportError: If onnx, onnxscript or onnxruntime is not installed.
        FileExistsError: If a file is there.
        ValueError: If a part cannot be exported.
        RuntimeError: If the graphs differ from the model by more than ``TOLERANCE``; no
            ``onnx.json`` is written then.
    """
    _check_packages()
    folder = Path(folder)
    for name in (IMAGE, PERCEPTION, SETTINGS):
        if (folder / name).exists():
            raise FileExistsError(f'{folder / name} exists')
    folder.mkdir(parents=True, exist_ok=True)
    device = next(model.parameters()).device
    shapes = tuple(model.encode(torch.zeros(1, 3, *canvas, device=device), []).shapes)
    image_graph = ImageGraph(model, shapes).cpu()
    perception_graph = PerceptionGraph(model.perception, shapes).cpu()
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, *canvas, generator=generator)
    extent = torch.tensor([[1.0, 0.75]])
    encoded = image_graph(image, extent)
    drawn = [_draw(model.llm.hidden_size, *size, generator) for size in _SIZES]
    with _quiet():
        _export(image_graph, dict(image=image, extent=extent), EncodedImage._fields, {},
                folder / IMAGE)
        _export(perception_graph, {**_for_perception(encoded), **drawn[0]._asdict()},
                FoundQueries._fields, _dynamic(), folder / PERCEPTION)
    settings = _settings(model, canvas, shapes)
    write_text(folder / SETTINGS, json.dumps(settings, indent=1) + '\n')
    try:
        differences = _compare(OnnxSession(folder), image_graph, perception_graph, image, extent,
                               drawn)
    except Exception:
        (folder / SETTINGS).unlink()
        raise
    write_text(folder / SETTINGS,
               json.dumps(dict(settings, differences=differences), indent=1) + '\n')
    return differences


def _check_packages() -> None:
    for name in ('onnx', 'onnxscript', 'onnxruntime'):
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError as error:
            raise ImportError(f'Export to ONNX needs the package {name}: {EXTRA}') from error


def _for_perception(encoded: EncodedImage) -> dict[str, Tensor]:
    inputs = encoded._asdict()
    del inputs['visual_tokens']
    return inputs


def _draw(width: int, rows: int, phrases: int, generator: torch.Generator) -> Questions:
    """Random states of words and sentences, with and without stuff."""
    number = torch.arange(rows)
    kept = torch.arange(phrases) <= (phrases - 1) // (1 + number[:, None] % 2)
    return Questions(
        torch.randn(rows, phrases, width, generator=generator),
        torch.randn(rows, width, generator=generator), kept,
        (torch.arange(phrases) % 2 == 0).expand(rows, -1).contiguous(),
        number % 2 == 0, number % 3 == 0)


def _dynamic() -> dict[str, dict[int, Any]]:
    """The dimensions of the second graph's inputs that may differ from call to call."""
    rows, phrases = (torch.export.Dim(name, min=1) for name in ('instructions', 'phrases'))
    wide = ('phrases', 'phrase_mask', 'is_thing')
    fixed: dict[str, dict[int, Any]] = {name: {} for name in EncodedImage._fields[1:]}
    return {**fixed, **{name: {0: rows, 1: phrases} if name in wide else {0: rows}
                        for name in Questions._fields}}


def _export(graph: nn.Module, inputs: dict[str, Tensor], outputs: tuple[str, ...],
            dynamic: dict[str, dict[int, Any]], path: Path) -> None:
    import onnxscript.optimizer
    program = torch.onnx.export(
        graph, (), kwargs=inputs, dynamo=True, opset_version=OPSET, verbose=False,
        input_names=list(inputs), output_names=list(outputs), optimize=False,
        dynamic_shapes=dynamic or None)
    # Constants are folded; of the further rewriting, the fusing of clamps breaks the graph.
    onnxscript.optimizer.fold_constants(program.model)
    onnxscript.optimizer.remove_unused_nodes(program.model)
    program.save(str(path))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what the exporter tells of its own steps."""
    loggers = [logging.getLogger(name) for name in ('onnxscript', 'torch.onnx', 'onnx_ir')]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _settings(model: MVPLM, canvas: tuple[int, int],
              shapes: tuple[tuple[int, int], ...]) -> dict[str, Any]:
    normalisation = {key: getattr(model.data_preprocessor, key).flatten().tolist()
                     for key in ('mean', 'std')}
    return dict(
        format=FORMAT, opset=OPSET, canvas=list(canvas), channels='RGB', **normalisation,
        levels=[list(shape) for shape in shapes], visual_tokens=model.tokenizer.num_visual_tokens,
        queries=model.perception.num_queries,
        stuff_queries=len(model.perception.stuff.content), llm_width=model.llm.hidden_size,
        torch=torch.__version__)


def _compare(session: OnnxSession, image_graph: ImageGraph, perception_graph: PerceptionGraph,
             image: Tensor, extent: Tensor, drawn: list[Questions]) -> dict[str, float]:
    encoded = image_graph(image, extent)
    # Both sides of the second comparison read the same memory.
    arrays = EncodedImage(*(x.numpy() for x in encoded))
    found = _differences(encoded, session.encode(image.numpy(), extent.numpy()))
    trials = []
    for questions in drawn:
        expected = perception_graph(**_for_perception(encoded), **questions._asdict())
        got = session.perceive(arrays, Questions(*(x.numpy() for x in questions)))
        trials.append(_differences(expected, got))
    # Of two tokens with nearly the same score either may be selected, which changes the queries
    # of one trial. A graph that computes something else differs in all of them.
    found.update(sorted(trials, key=lambda trial: max(trial.values()))[len(trials) // 2])
    wrong = {name: value for name, value in found.items() if not value <= TOLERANCE}
    if wrong:
        raise RuntimeError(f'The exported graphs differ from the model by more than {TOLERANCE}: '
                           f'{wrong}')
    return found


def _differences(expected: EncodedImage | FoundQueries,
                 got: EncodedImage | FoundQueries) -> dict[str, float]:
    return {name: float((np.abs(b.astype(np.float64) - a) / np.maximum(np.abs(a), 1)).max())
            for name, a, b in zip(
                expected._fields, (x.double().numpy() for x in expected), got, strict=True)}
