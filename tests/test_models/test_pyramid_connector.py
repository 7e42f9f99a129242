# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mvp_mm.engine.checkpoint import load_stage_checkpoint
from mvp_mm.engine.config_loading import load_config
from mvp_mm.models.acceleration import accelerate_answers
from mvp_mm.models.connectors import MLPConnector, PyramidConnector, build_connector, connect
from mvp_mm.registry import MODELS
from tests.helpers import ROOT, build_model
from tests.test_models.mvp_lm_runs import prepare, total

CHANNELS = (2, 3, 4, 5)
WIDTH = 8
SHIPPED = ROOT / 'mvp_mm/weights/tiny/model.safetensors'
PYRAMID = dict(_delete_=True, type='PyramidConnector', merge=2)


def maps(height=2, width=4, requires_grad=False):
    return tuple(torch.randn(2, c, height * s, width * s, requires_grad=requires_grad)
                 for c, s in zip(CHANNELS, (8, 4, 2, 1), strict=True))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize('merge', [1, 2])
def test_it_gives_as_many_tokens_as_the_mlp_connector(merge):
    tokens = connect(PyramidConnector(CHANNELS, WIDTH, merge), maps())
    assert tokens.shape == (2, MLPConnector.num_tokens(2, 4, merge), WIDTH)
    assert PyramidConnector.num_tokens(2, 4, merge) == MLPConnector.num_tokens(2, 4, merge)


def test_a_fifth_map_at_stride_2_is_not_read():
    connector = build_connector(dict(type='PyramidConnector', merge=1), (7, *CHANNELS), WIDTH)
    four = maps()
    five = (torch.randn(2, 7, 32, 64), *four)
    assert torch.equal(connect(connector, five), connect(connector, four))


@pytest.mark.parametrize('merge', [1, 2])
def test_each_token_reads_its_square_of_every_map_and_its_place(merge):
    connector = PyramidConnector(CHANNELS, WIDTH, merge).eval()
    features = maps()
    with torch.no_grad():
        for norm in connector.norms:
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)
        tokens = connector(features).unflatten(1, (2 // merge, 4 // merge))
        places = connector([torch.zeros_like(f) + norm.running_mean[:, None, None]
                            for f, norm in zip(features, connector.norms, strict=True)])
        assert len({tuple(token.tolist()) for token in places[0]}) == places.shape[1]
        for top in range(2 // merge):
            for left in range(4 // merge):
                alone = [torch.zeros_like(f) + norm.running_mean[:, None, None]
                         for f, norm in zip(features, connector.norms, strict=True)]
                for kept, feature, scale in zip(alone, features, (8, 4, 2, 1), strict=True):
                    side = merge * scale
                    square = (..., slice(top * side, (top + 1) * side),
                              slice(left * side, (left + 1) * side))
                    kept[square] = feature[square]
                got = connector(alone).unflatten(1, (2 // merge, 4 // merge))
                torch.testing.assert_close(got[:, top, left], tokens[:, top, left])
                others = torch.ones(2 // merge, 4 // merge, dtype=torch.bool)
                others[top, left] = False
                torch.testing.assert_close(
                    got[:, others], places.unflatten(1, others.shape)[:, others])


def test_a_channel_that_hardly_varies_counts_as_much_as_one_that_varies_widely():
    connector = PyramidConnector(CHANNELS, WIDTH, 1)
    features = maps()
    quiet = [features[0] * torch.tensor([0.1, 1.0])[:, None, None] + 3, *features[1:]]
    torch.testing.assert_close(connector(quiet), connector(features), rtol=1e-2, atol=1e-3)


def test_gradients_reach_every_map_and_every_parameter():
    connector = PyramidConnector(CHANNELS, WIDTH)
    features = maps(requires_grad=True)
    F.mse_loss(connector(features), torch.randn(2, 2, WIDTH)).backward()
    assert all(f.grad.abs().sum() > 0 for f in features)
    assert all(p.grad.abs().sum() > 0 for p in connector.parameters())


def test_maps_that_do_not_fit_are_refused():
    features = list(maps())
    features[2] = features[2][..., :-1]
    with pytest.raises(ValueError, match=r'\(4, 7\) should be of \(4, 8\), 4 × 4 positions'):
        PyramidConnector(CHANNELS, WIDTH)(features)
    with pytest.raises(ValueError, match=r'\(2, 3\) cannot be merged 2 × 2'):
        PyramidConnector(CHANNELS, WIDTH)(maps(width=3))


def test_a_model_trains_with_it_on_language_alone(tokenizer_path, samples):
    model = build_model(tokenizer_path, connector=PYRAMID, trainable=['connector', 'encoder'])
    groups = [samples('CaptionTask', 'PanopticTask')]
    total(model.train()(**prepare(model, groups, True), mode='loss')).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith(('connector.', 'encoder.')), name
    assert all(p.grad.abs().sum() > 0 for p in model.connector.parameters())


def test_accelerated_answers_are_the_same(tokenizer_path, samples):
    model = build_model(tokenizer_path, connector=PYRAMID).eval()
    data = prepare(model, [samples('PanopticTask')], False)
    with torch.no_grad():
        before = model.encode(data['inputs'], data['data_samples']).visual_tokens
        accelerate_answers(model, graphs=True)
        for _ in range(2):
            after = model.encode(data['inputs'], data['data_samples']).visual_tokens
            torch.testing.assert_close(after, before)


def test_the_rest_of_a_model_starts_from_weights_of_another_connector():
    cfg = load_config(ROOT / 'configs/mvplm/tiny/pretrained.py', {
        'model.connector.type': 'MLPConnector',
        'model.encoder.backbone.pretrained_path': None})
    assert cfg.model.tokenizer.num_visual_tokens == 16
    model = MODELS.build({**cfg.model, 'data_preprocessor': None})
    report = load_stage_checkpoint(model, SHIPPED)
    assert report.fresh and all(key.startswith('connector.') for key in report.fresh)
    assert report.unused and all(key.startswith('connector.') for key in report.unused)
