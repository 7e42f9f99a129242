# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import pytest
import torch

from mvp_mm.models.building import build_part
from mvp_mm.models.heads import BoxHead, SimilarityHead
from mvp_mm.models.query_generators import (
    DynamicQueryGenerator,
    LearnableQueryGenerator,
    VisualQueryGenerator,
)
from mvp_mm.models.state import QueriesPerImage
from tests.test_models.parts import SHAPES, WIDTH, make_state

INDEX = [1, 0, 1]
QUERIES = 5
LLM_WIDTH = 24


@pytest.fixture
def heads():
    return SimilarityHead(WIDTH), BoxHead(WIDTH)


def generate(generator, heads, state, text=None, phrases=None):
    text = torch.randn(len(INDEX), 3, WIDTH) if text is None else text
    if phrases is None:
        phrases = torch.tensor([[True, True, True], [True, False, False], [True, True, False]])
    rows = QueriesPerImage(torch.tensor(INDEX), len(state.memory))
    return generator(torch.randn(len(INDEX), LLM_WIDTH), state, text, phrases, rows, *heads)


@torch.no_grad()
def plain_choice(generator, heads, state, text, phrases):
    """For every row the token indices of the N best cosines, each token scored by a loop."""
    chosen = []
    for r, image in enumerate(INDEX):
        scores = []
        for s, token in enumerate(state.memory[image]):
            visual = heads[0].visual(generator.selection.project(token))
            best = max(float(torch.cosine_similarity(visual, text[r, k], dim=0))
                       for k in range(3) if phrases[r, k])
            if not state.padding_mask[image, s]:
                scores.append((best, s))
        chosen.append([s for _, s in sorted(scores, reverse=True)[:QUERIES]])
    return chosen


def build(kind):
    return build_part(dict(type=kind.__name__, num_queries=QUERIES),
                      llm_dims=LLM_WIDTH, embed_dims=WIDTH)


@pytest.mark.parametrize('kind', [
    DynamicQueryGenerator, VisualQueryGenerator, LearnableQueryGenerator])
def test_shapes_and_ranges(kind, heads):
    found = generate(build(kind), heads, make_state())
    assert found.content.shape == (3, QUERIES, WIDTH)
    assert found.boxes.shape == (3, QUERIES, 4)
    assert (found.boxes > 0).all() and (found.boxes < 1).all()
    assert (found.selected is None) == (kind is LearnableQueryGenerator)


@pytest.mark.parametrize('kind', [DynamicQueryGenerator, VisualQueryGenerator])
def test_the_most_similar_tokens_of_the_row_s_image_are_selected(kind, heads):
    generator = build(kind)
    state = make_state(extent=[(1.0, 0.5), (0.75, 1.0)])
    text = torch.randn(3, 3, WIDTH)
    phrases = torch.tensor([[True, True, True], [True, False, False], [False, True, True]])
    found = generate(generator, heads, state, text, phrases)
    for r, tokens in enumerate(plain_choice(generator, heads, state, text, phrases)):
        expected = generator.selection.project(state.memory[INDEX[r], tokens])
        torch.testing.assert_close(found.selected[r], expected)


def test_padded_memory_is_never_selected(heads):
    generator = VisualQueryGenerator(WIDTH, QUERIES)
    state = make_state(extent=[(0.5, 0.5), (0.5, 0.5)])
    text = torch.randn(3, 1, WIDTH).expand(-1, 3, -1)
    with torch.no_grad():
        # Among all tokens those of the padding fit the text best.
        visual = heads[0].visual(generator.selection.project(state.memory))
        similarity = torch.cosine_similarity(visual[INDEX][:, :, None], text[:, None], dim=-1)
        assert any(state.padding_mask[INDEX[r], similarity[r, :, 0].argmax()] for r in range(3))
        found = generate(generator, heads, state, text)
        projected = generator.selection.project(state.memory)
    for r, image in enumerate(INDEX):
        padded = projected[image, state.padding_mask[image]]
        assert torch.cdist(found.selected[r], padded).min() > 1e-3


def test_dynamic_queries_add_base_queries_to_the_selection(heads):
    generator = DynamicQueryGenerator(LLM_WIDTH, WIDTH, QUERIES)
    summary, text = torch.randn(3, LLM_WIDTH), torch.randn(3, 3, WIDTH)
    found = generator(summary, make_state(), text, torch.ones(3, 3, dtype=torch.bool),
                      QueriesPerImage(torch.tensor(INDEX), 2), *heads)
    for r in range(3):
        base = generator.base.expand(summary[r]).view(QUERIES, WIDTH)
        torch.testing.assert_close(found.content[r], found.selected[r] + base)


def test_visual_queries_are_the_selection_alone(heads):
    found = generate(VisualQueryGenerator(WIDTH, QUERIES), heads, make_state())
    torch.testing.assert_close(found.content, found.selected, rtol=0, atol=0)


def test_learnable_queries_depend_on_the_summary_alone(heads):
    generator = LearnableQueryGenerator(LLM_WIDTH, WIDTH, QUERIES)
    summary, phrases = torch.randn(3, LLM_WIDTH), torch.ones(3, 3, dtype=torch.bool)
    rows = QueriesPerImage(torch.tensor(INDEX), 2)
    for _ in range(2):
        found = generator(
            summary, make_state(), torch.randn(3, 3, WIDTH), phrases, rows, *heads)
        for r in range(3):
            base = generator.base.expand(summary[r]).view(QUERIES, WIDTH)
            torch.testing.assert_close(found.content[r], generator.content.weight + base)
            torch.testing.assert_close(found.boxes[r], generator.boxes.sigmoid())


def test_anchors_stand_at_the_tokens_and_double_with_each_level():
    generator = VisualQueryGenerator(WIDTH, QUERIES)
    expected = [((x + 0.5) / w, (y + 0.5) / h, 0.05 * 2**level, 0.05 * 2**level)
                for level, (h, w) in enumerate(SHAPES) for y in range(h) for x in range(w)]
    torch.testing.assert_close(
        generator.selection.anchors(make_state()), torch.tensor(expected))


def test_selected_boxes_are_the_anchors_corrected_by_the_box_head(heads):
    generator = VisualQueryGenerator(WIDTH, QUERIES)
    torch.nn.init.normal_(heads[1].delta[-1].bias)
    state = make_state()
    text, phrases = torch.randn(3, 3, WIDTH), torch.ones(3, 3, dtype=torch.bool)
    found = generate(generator, heads, state, text, phrases)
    anchors = generator.selection.anchors(state)
    for r, tokens in enumerate(plain_choice(generator, heads, state, text, phrases)):
        torch.testing.assert_close(
            found.selected_boxes[r], heads[1](found.selected[r], anchors[tokens]))
    torch.testing.assert_close(found.boxes, found.selected_boxes)


def test_selection_sends_gradients_only_through_its_own_supervision(heads):
    generator = DynamicQueryGenerator(LLM_WIDTH, WIDTH, QUERIES)
    state = make_state()
    state.memory.requires_grad_(True)
    found = generate(generator, heads, state)
    assert not found.boxes.requires_grad
    through_content, = torch.autograd.grad(
        found.content.sum(), state.memory, retain_graph=True, allow_unused=True)
    assert through_content is None
    weight = torch.randn_like(found.selected)
    (found.selected * weight).sum().backward()
    assert state.memory.grad.abs().sum() > 0
    assert generator.selection.project[0].weight.grad.abs().sum() > 0


def test_base_queries_train_through_the_content(heads):
    for kind in (DynamicQueryGenerator, LearnableQueryGenerator):
        generator = build(kind)
        generate(generator, heads, make_state()).content.square().sum().backward()
        assert all(p.grad.abs().sum() > 0 for p in generator.base.parameters())


def test_too_few_tokens_raise(heads):
    state = make_state(shapes=[(2, 2), (1, 1)])
    with pytest.raises(ValueError, match='6 queries cannot be selected from 5 tokens'):
        generate(VisualQueryGenerator(WIDTH, 6), heads, state)
