# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from mvp_mm.engine.checkpoint import load_stage_checkpoint
from mvp_mm.engine.config_loading import load_config
from mvp_mm.models.acceleration import accelerate_answers
from mvp_mm.models.connectors import MLPConnector, PyramidConnector, connect
from mvp_mm.registry import MODELS
from tests.helpers import ROOT, build_model
from tests.test_models.mvp_lm_runs import prepare, total

CHANNELS = (2, 3, 4, 5)
SHIPPED = ROOT / 'mvp_mm/weights/tiny/model.safetensors'
PYRAMID = dict(_delete_=True, type='PyramidConnector', merge=2)


def maps(height=2, width=4, requires_grad=False):
    return tuple(torch.randn(2, c, height * s, width * s, requires_grad=requires_grad)
                 for c, s in zip(CHANNELS, (8, 4, 2, 1), strict=True))


def stirred(connector):
    """The connector after its new layers have left zero."""
    for parameter in connector.finer.parameters():
        torch.nn.init.normal_(parameter)
    return connector


@pytest.mark.parametrize('merge', [1, 2])
@pytest.mark.parametrize('num_finer', [1, 2, 3])
def test_it_starts_as_the_mlp_connector_whose_weights_it_takes(merge, num_finer):
    shipped = MLPConnector(CHANNELS[-1], 6, merge)
    connector = PyramidConnector(CHANNELS, 6, merge, num_finer)
    missing, unexpected = connector.load_state_dict(shipped.state_dict(), strict=False)
    assert not unexpected and all(key.startswith('finer.') for key in missing)
    features = maps()
    tokens = connect(connector, features)
    assert tokens.shape == (2, MLPConnector.num_tokens(2, 4, merge), 6)
    assert torch.equal(tokens, connect(shipped, features))


@pytest.mark.parametrize('merge', [1, 2])
def test_each_token_reads_its_square_of_every_map(merge):
    connector = stirred(PyramidConnector(CHANNELS, 6, merge, num_finer=2))
    features = maps()
    tokens = connector(features).unflatten(1, (2 // merge, 4 // merge))
    for top in range(2 // merge):
        for left in range(4 // merge):
            expected = connector.mlp(square(features[3], top, left, merge))
            expected = expected + connector.finer[0](square(features[2], top, left, 2 * merge))
            expected = expected + connector.finer[1](square(features[1], top, left, 4 * merge))
            torch.testing.assert_close(tokens[:, top, left], expected)


def square(feature, top, left, side):
    return feature[..., top * side:(top + 1) * side, left * side:(left + 1) * side].flatten(1)


def test_a_first_step_moves_the_new_layers_and_later_ones_reach_every_map_read():
    connector = PyramidConnector(CHANNELS, 6, num_finer=2)
    connector(maps()).square().sum().backward()
    assert all(mlp[-1].weight.grad.abs().sum() > 0 for mlp in connector.finer)
    features = maps(requires_grad=True)
    stirred(connector)(features).square().sum().backward()
    assert features[0].grad is None
    assert all(f.grad.abs().sum() > 0 for f in features[1:])
    assert all(p.grad.abs().sum() > 0 for p in connector.parameters())


def test_a_map_of_another_size_and_a_level_too_many_are_refused():
    features = list(maps())
    features[2] = features[2][..., :-1]
    with pytest.raises(ValueError, match=r'\(4, 7\) is not 2 times .* the last, \(2, 4\)'):
        PyramidConnector(CHANNELS, 6)(features)
    with pytest.raises(ValueError, match='num_finer must be 1 to 3'):
        PyramidConnector(CHANNELS, 6, num_finer=4)


def test_a_model_trains_with_it_on_language_alone(tokenizer_path, samples):
    model = build_model(tokenizer_path, connector=PYRAMID, trainable=['connector', 'encoder'])
    stirred(model.connector)
    groups = [samples('CaptionTask', 'PanopticTask')]
    total(model.train()(**prepare(model, groups, True), mode='loss')).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith(('connector.', 'encoder.')), name
    assert all(p.grad.abs().sum() > 0 for p in model.connector.parameters())


def test_accelerated_answers_are_the_same(tokenizer_path, samples):
    model = build_model(tokenizer_path, connector=PYRAMID).eval()
    stirred(model.connector)
    data = prepare(model, [samples('PanopticTask')], False)
    with torch.no_grad():
        before = model.encode(data['inputs'], data['data_samples']).visual_tokens
        accelerate_answers(model)
        for _ in range(2):
            after = model.encode(data['inputs'], data['data_samples']).visual_tokens
            torch.testing.assert_close(after, before)


def test_a_tiny_model_with_it_starts_from_the_weights_of_the_repository():
    cfg = load_config(ROOT / 'configs/mvplm/tiny/pretrained.py', {
        'model.connector.type': 'PyramidConnector',
        'model.encoder.backbone.pretrained_path': None})
    assert cfg.model.tokenizer.num_visual_tokens == 16
    model = MODELS.build({**cfg.model, 'data_preprocessor': None})
    report = load_stage_checkpoint(model, SHIPPED)
    assert not report.unused and all(key.startswith('connector.finer.') for key in report.fresh)
    features = [torch.randn(1, c, s, s) for c, s in
                zip(model.encoder.out_channels, (32, 16, 8, 4), strict=True)]
    given = {key.removeprefix('connector.'): value.float()
             for key, value in load_file(SHIPPED).items() if key.startswith('connector.')}
    shipped = MLPConnector(features[-1].shape[1], model.llm.hidden_size, merge=1)
    shipped.load_state_dict(given)
    assert torch.equal(connect(model.connector, features), shipped(features[-1]))
