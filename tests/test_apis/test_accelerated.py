# Copyright (c) mvp_mm authors. All rights reserved.
"""Accelerated models; on the CPU the same calls are made without graphs."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mvp_mm.apis import MVP
from mvp_mm.models.acceleration import CapturedFunction, CapturedRunner

QUESTION = dict(words=['circle', 'square'], threshold=0., progress=False)


@pytest.fixture(scope='module')
def plain(checkpoint: Path) -> MVP:
    return MVP(checkpoint, 'cpu')


@pytest.fixture(scope='module')
def fast(checkpoint: Path) -> MVP:
    return MVP(checkpoint, 'cpu', acceleration=dict(graphs=True))


@pytest.mark.parametrize('thinking', [False, True])
def test_an_accelerated_model_answers_as_the_plain_one(
        plain: MVP, fast: MVP, image: np.ndarray, thinking: bool) -> None:
    wanted, found = (model(image, channels='bgr', thinking=thinking, **QUESTION)
                     for model in (plain, fast))
    assert found.labels == wanted.labels
    assert found.caption == wanted.caption
    np.testing.assert_allclose(found.boxes, wanted.boxes, atol=1e-3)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-5)


def test_acceleration_records_the_parts_of_the_model(fast: MVP) -> None:
    network = fast._inferencer.model
    assert isinstance(network.encoder.forward, CapturedFunction)
    assert isinstance(network.llm.runner, CapturedRunner)


def test_graphs_are_for_cuda_devices(checkpoint: Path) -> None:
    network = MVP(checkpoint, 'cpu', acceleration=True)._inferencer.model
    assert not isinstance(network.encoder.forward, CapturedFunction)


def test_accelerated_weights_are_held_in_the_precision(checkpoint: Path) -> None:
    model = MVP(checkpoint, 'cpu', dtype='bfloat16', acceleration=dict(
        weights='bfloat16', graphs=False))
    network = model._inferencer.model
    assert str(next(network.llm.lm.parameters()).dtype) == 'torch.bfloat16'
    assert not isinstance(network.encoder.forward, CapturedFunction)


@pytest.mark.parametrize('acceleration, dtype, complaint', [
    (dict(weights='bfloat16'), None, 'same as dtype'),
    (dict(graph=True), None, 'got graph'),
    ('fast', None, "'fast'"),
    (dict(weights='bf16'), 'bfloat16', "'bf16'")])
def test_a_wrong_acceleration_is_named(checkpoint: Path, acceleration: object,
                                       dtype: str | None, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        MVP(checkpoint, 'cpu', dtype=dtype, acceleration=acceleration)


def test_an_accelerated_model_is_neither_saved_nor_exported(fast: MVP, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='without acceleration'):
        fast.save_pretrained(tmp_path / 'saved')
    with pytest.raises(ValueError, match='without acceleration'):
        fast.export_onnx(tmp_path / 'graphs')
    assert not list(tmp_path.iterdir())
