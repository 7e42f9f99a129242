# Copyright (c) mvp_mm authors. All rights reserved.
"""Exported graphs answer as the model does, for any number of questions and words."""
from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mvp_mm.apis import MVP, PerceptionInferencer
from mvp_mm.engine import load_config
from mvp_mm.export import onnx_export
from mvp_mm.export.graphs import with_grid_sample
from mvp_mm.export.onnx_session import open_session
from mvp_mm.registry import MODELS
from tests.helpers import ROOT, build_model, save_tokenizer
from tests.test_apis.conftest import checkpoint, image  # noqa: F401  fixtures
from tests.test_docs.pages import blocks

pytest.importorskip('onnxscript')
pytest.importorskip('onnxruntime')
QUESTIONS = [
    dict(words=['circle', 'grass', 'star'], stuff=['grass'], task='semantic'),
    dict(words=['circle']), dict(words=['square', 'star'], task='detection'),
    dict(text='the circle on the left'), dict(text='all stars')]
PAGE = blocks((ROOT / 'docs/how_to/onnx.md').read_text(encoding='utf-8'), 'python')
ONE_LAYER = dict(pixel_decoder=dict(num_layers=1), perception=dict(decoder=dict(num_layers=1)))


@pytest.fixture(scope='module')
def exported(checkpoint, tmp_path_factory):  # noqa: F811
    """The folder that the first block of the page makes, and what it says of the graphs."""
    place = tmp_path_factory.mktemp('exported')
    MVP(checkpoint, 'cpu').save_pretrained(place / 'CHECKPOINT')
    scope: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        exec(PAGE[0], scope)
    return place / 'graphs', scope['differences']


def test_graphs_and_model_agree_to_a_thousandth(exported):
    folder, differences = exported
    assert set(differences) == {'visual_tokens', 'memory', 'mask_features', 'padding_mask',
                                'logits', 'boxes', 'masks', 'states'}
    assert max(differences.values()) <= 1e-3
    settings = json.loads((folder / 'onnx.json').read_text())
    assert settings['canvas'] == [128, 128] and settings['differences'] == differences


def test_questions_and_words_are_dynamic_and_the_canvas_is_not(exported):
    session = open_session(exported[0] / 'perception.onnx', ['CPUExecutionProvider'])
    shapes = {value.name: value.shape for value in session.get_inputs()}
    assert shapes['phrases'] == ['instructions', 'phrases', 32]
    assert shapes['summary'] == ['instructions', 32]
    assert shapes['memory'] == [1, 340, 32]
    outputs = {value.name: value.shape for value in session.get_outputs()}
    assert outputs['boxes'][1:] == [11, 4] and outputs['masks'][1:] == [11, 32, 32]


def test_a_model_answers_with_the_graphs_as_without_them(exported, checkpoint, image):  # noqa: F811
    pictures = [image, image[::-1, :40].copy()]
    options = dict(thinking=False, threshold=0., nms_iou=None, channels='bgr', progress=False)
    model = MVP(checkpoint, 'cpu')
    expected = [model(pictures, batch_size=2, **question, **options) for question in QUESTIONS]
    network = model._inferencer.model
    model.use_onnx(exported[0])
    network.pixel_decoder.forward = network.perception.decoder.forward = None    # not called
    for question, before in zip(QUESTIONS, expected, strict=True):
        for one, other in zip(before, model(pictures, batch_size=2, **question, **options),
                              strict=True):
            assert one.labels == other.labels and len(one)
            np.testing.assert_allclose(other.boxes, one.boxes, atol=1e-3)
            np.testing.assert_allclose(other.scores, one.scores, atol=1e-4)
            if one.segments is not None:
                assert np.mean(one.segments.map != other.segments.map) < 1e-3


def test_the_rest_of_the_page_runs(exported, image, monkeypatch, capsys):  # noqa: F811
    monkeypatch.chdir(exported[0].parent)
    cv2.imwrite('IMAGE.png', image)
    Path('IMAGE.png').rename('IMAGE')
    scope = dict(model=MVP('CHECKPOINT', 'cpu'))
    assert len(PAGE) == 3
    for text in PAGE[1:]:
        exec(text, scope)
    assert scope['answer'].task == 'instance'
    assert capsys.readouterr().out == '(2, 11, 4) (2, 11, 4) (2, 11, 32, 32)\n'


@pytest.mark.parametrize('variant', ['plus', 'pyramid', 'released'])
def test_variants_of_the_model_export_too(variant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tokenizer = save_tokenizer(tmp_path / 'data/synthetic/tokenizer')
    if variant == 'plus':
        model = build_model(
            tokenizer, pixel_decoder=dict(num_layers=1, position=dict(type='CyclePosition')),
            perception=dict(
                similarity_head=dict(relation=True, surroundings=4),
                decoder=dict(num_layers=1, position_in_content=True, position_code='cycles')))
        # Zero at the start: the graph could leave it out unseen.
        torch.nn.init.normal_(model.perception.surroundings_text[-1].weight)
    elif variant == 'pyramid':
        model = build_model(
            tokenizer, connector=dict(_delete_=True, type='PyramidConnector'), **ONE_LAYER)
    else:
        config = load_config(ROOT / 'configs/mvplm/released/tiny.py')
        config.merge_from_dict(dict(model=ONE_LAYER))
        model = MODELS.build(config.model)
    found = onnx_export.export_onnx(model.eval(), tmp_path / 'out', (128, 128))
    assert max(found.values()) <= onnx_export.TOLERANCE


def test_graphs_that_differ_are_refused(exported, tmp_path):
    tokenizer = save_tokenizer(tmp_path / 'tokenizer')
    network = build_model(tokenizer).eval()
    shapes = ((16, 16), (8, 8), (4, 4), (2, 2))
    parts = (onnx_export.ImageGraph(network, shapes),
             onnx_export.PerceptionGraph(network.perception, shapes))
    with torch.no_grad():
        for parameter in parts[0].pixel_decoder.output.parameters():
            parameter.add_(0.01)
    drawn = [onnx_export._draw(32, 2, 3, torch.Generator().manual_seed(0))]
    with torch.no_grad(), pytest.raises(RuntimeError, match='differ from the model'):
        onnx_export._compare(onnx_export.OnnxSession(exported[0]), *parts,
                             torch.zeros(1, 3, 128, 128), torch.ones(1, 2), drawn)


def test_nothing_is_overwritten(exported, checkpoint):  # noqa: F811
    with pytest.raises(FileExistsError, match=r'image\.onnx'):
        MVP(checkpoint, 'cpu').export_onnx(exported[0])


def test_a_folder_without_graphs_is_named(checkpoint, tmp_path):  # noqa: F811
    with pytest.raises(FileNotFoundError, match=r'no onnx\.json'):
        MVP(checkpoint, 'cpu').use_onnx(tmp_path)
    for name in ('image.onnx', 'perception.onnx'):
        (tmp_path / name).touch()
    (tmp_path / 'onnx.json').write_text('{"format": "other"}')
    with pytest.raises(ValueError, match=r"onnx\.json: format 'other'"):
        MVP(checkpoint, 'cpu').use_onnx(tmp_path)


def test_a_canvas_that_depends_on_the_image_is_refused(checkpoint, tmp_path):  # noqa: F811
    inferencer = PerceptionInferencer(None, checkpoint, 'cpu')
    config = inferencer.config.copy()
    config.inferencer.pipeline = [
        step for step in config.inferencer.pipeline if step.type != 'PadToCanvas']
    with pytest.raises(ValueError, match='one canvas'):
        MVP(checkpoint, 'cpu', config).export_onnx(tmp_path / 'out')


def test_an_attention_of_another_kind_is_refused():
    part = torch.nn.ModuleDict(dict(layer=torch.nn.ModuleDict(dict(attention=torch.nn.Identity()))))
    with pytest.raises(ValueError, match="attention_type='DeformableAttention'"):
        with_grid_sample(part, ())
