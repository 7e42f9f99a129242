# Copyright (c) mvp_mm authors. All rights reserved.
"""The plugin of query initialisations."""
from __future__ import annotations

import pytest
import torch

from mvp_mm.analysis.ablations import read_suite
from mvp_mm.engine import check_config, load_config
from mvp_mm.models.building import build_part
from mvp_mm.models.heads import BoxHead, SimilarityHead
from mvp_mm.models.query_generators import DynamicQueryGenerator
from mvp_mm.models.state import QueriesPerImage
from mvp_mm.registry import MODELS
from tests.helpers import ROOT, build_model, make_batch, make_samples, save_tokenizer
from tests.test_models.parts import WIDTH, make_state

PROJECT = ROOT / 'projects/query_initialisation'
SUITE = read_suite(PROJECT / 'recipes.yml')
QUERIES, ROWS, LLM_WIDTH = 4, [1, 0, 1], 24


@pytest.fixture(scope='module', autouse=True)
def plugin():
    """Reading the config is what loads the plugin: this file never imports it."""
    load_config(PROJECT / 'configs/tiny.py')


def build(kind, **settings):
    torch.manual_seed(0)
    return build_part(dict(type=kind, num_queries=QUERIES, **settings),
                      llm_dims=LLM_WIDTH, embed_dims=WIDTH)


def generate(generator, seed=1):
    torch.manual_seed(seed)
    similarity, box_head, state = SimilarityHead(WIDTH), BoxHead(WIDTH), make_state()
    summary, text = torch.randn(len(ROWS), LLM_WIDTH), torch.randn(len(ROWS), 3, WIDTH)
    found = generator(summary, state, text, torch.ones(len(ROWS), 3, dtype=torch.bool),
                      QueriesPerImage(torch.tensor(ROWS), 2), similarity, box_head)
    return found, summary


def test_a_closed_gate_leaves_the_selected_features_out_and_keeps_their_boxes():
    generator = build('GatedQueryGenerator')
    found, summary = generate(generator)
    torch.testing.assert_close(found.content, generator.content.weight + generator.base(summary))
    plain = DynamicQueryGenerator(LLM_WIDTH, WIDTH, QUERIES)
    plain.selection = generator.selection
    torch.testing.assert_close(found.boxes, generate(plain)[0].boxes)


def test_an_open_gate_adds_the_selected_features_channel_by_channel():
    generator = build('GatedQueryGenerator')
    closed, _ = generate(generator)
    with torch.no_grad():
        generator.gate[3] = 0.5
    opened, _ = generate(generator)
    expected = torch.zeros_like(opened.content)
    expected[..., 3] = 0.5 * opened.selected[..., 3]
    torch.testing.assert_close(opened.content - closed.content, expected)


def test_the_gate_learns_from_the_first_step_on():
    generator = build('GatedQueryGenerator')
    generate(generator)[0].content.square().sum().backward()
    assert (generator.gate.grad != 0).all()


def test_mixed_selection_has_no_gate():
    assert not [name for name, _ in build('GatedQueryGenerator', gated=False).named_parameters()
                if 'gate' in name]


def greedy(boxes, iou_thr, count):
    """Plain NMS over cxcywh boxes in their order, then the suppressed ones."""
    def overlap(a, b):
        sides = [max(0.0, min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2)
                     - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2)) for i in (0, 1)]
        inter = sides[0] * sides[1]
        return inter / (a[2] * a[3] + b[2] * b[3] - inter)
    kept, rest = [], []
    for i, box in enumerate(boxes):
        (rest if any(overlap(box, boxes[k]) > iou_thr for k in kept) else kept).append(i)
    return [*kept, *rest][:count]


@pytest.mark.parametrize('iou_thr', [0.1, 0.5, 1.0])
def test_distinct_selection_is_nms_over_the_proposals_of_each_row(iou_thr):
    chooser = build('DistinctQueryGenerator', distinct_iou=iou_thr).selection
    boxes = torch.rand(3, 4 * QUERIES, 4) * 0.2 + 0.3
    boxes[1] = boxes[1, :1]    # one object alone: the rest is filled up with repeats
    found = chooser.distinct(boxes).tolist()
    assert found == [greedy(row, iou_thr, QUERIES) for row in boxes.tolist()]
    assert found[1] == [0, 1, 2, 3]


def test_distinct_queries_are_the_most_similar_ones_where_nothing_overlaps():
    generator = build('DistinctQueryGenerator', distinct_iou=1.0)
    plain = DynamicQueryGenerator(LLM_WIDTH, WIDTH, QUERIES)
    plain.load_state_dict(generator.state_dict())
    for one, other in zip(vars(generate(generator)[0]).values(),
                          vars(generate(plain)[0]).values(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize('settings', [dict(distinct_iou=0.0), dict(candidates=0)])
def test_an_impossible_selection_is_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        build('DistinctQueryGenerator', **settings)


@pytest.mark.parametrize('settings', [
    dict(type='GatedQueryGenerator'), dict(type='GatedQueryGenerator', distinct_iou=0.7),
    dict(type='DistinctQueryGenerator')], ids=str)
def test_a_model_with_it_trains_every_parameter_of_it(settings, tmp_path):
    path = save_tokenizer(tmp_path)
    model = build_model(path, perception=dict(query_generator=dict(settings))).train()
    groups = [[*make_samples('PanopticTask', path),
               *make_samples('ReferringSegmentationTask', path)]]
    data = model.data_preprocessor(make_batch(groups), True)
    model.parse_losses(model(**data, mode='loss'))[0].backward()
    assert all(p.grad is not None for p in model.perception.query_generator.parameters())


@pytest.mark.parametrize('name', SUITE.recipes)
def test_every_recipe_of_the_verdict_passes_the_check(name, tmp_path):
    recipe = SUITE.recipes[name]
    cfg = load_config(ROOT / recipe.config, {
        **recipe.options, 'model.tokenizer.path': str(tmp_path)})
    cfg.model.encoder.backbone.pop('pretrained_path')    # written by a command
    check_config(cfg, modes=())
    assert MODELS.get(cfg.model.perception.query_generator.type)
