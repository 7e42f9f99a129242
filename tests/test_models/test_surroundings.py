# Copyright (c) mvp_mm authors. All rights reserved.
"""What lies around boxes, and the third term of sentences' similarities that reads it."""
from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mvp_mm.models.heads import SimilarityHead, TextEmbeddings
from mvp_mm.models.heads.surroundings import memory_around
from mvp_mm.models.state import QueriesPerImage
from tests.helpers import build_model
from tests.test_models.parts import SHAPES, WIDTH, make_batch, make_state, random_boxes

DIMS = 4
HEAD = dict(similarity_head=dict(relation=True, surroundings=DIMS))


def on_finest(state, values):
    """The state with ``values`` (B, h, w) in every channel of the memory's finest level."""
    height, width = SHAPES[0]
    memory = state.memory.clone()
    memory[:, :height * width] = values.reshape(len(memory), -1, 1)
    return replace(state, memory=memory)


def rows_of(*image_index, images=2):
    return QueriesPerImage(torch.tensor(image_index), images)


def columns(state):
    """The x coordinate of every cell."""
    height, width = SHAPES[0]
    return ((torch.arange(width) + 0.5) / width).expand(len(state.memory), height, width)


def test_the_mean_of_a_slope_around_a_box_is_its_value_at_the_centre():
    state = make_state()
    boxes = torch.tensor([[[0.5, 0.5, 0.25, 0.125], [0.375, 0.625, 0.25, 0.25]]] * 2)
    found = memory_around(boxes, on_finest(state, columns(state)), rows_of(0, 1))
    torch.testing.assert_close(found, boxes[..., :1].expand(-1, -1, WIDTH))


def test_what_lies_in_the_box_does_not_count():
    state = make_state(1)
    inside = torch.zeros(1, *SHAPES[0])
    inside[:, 3:5, 3:5] = 1.0
    box = torch.tensor([[[0.5, 0.5, 0.75, 0.75]]])
    found = memory_around(box, on_finest(state, inside), rows_of(0, images=1))
    assert (found == 0).all()


def test_every_row_reads_its_own_image():
    state = make_state()
    values = torch.tensor([1.0, 2.0])[:, None, None].expand(2, *SHAPES[0])
    boxes = random_boxes(3, 2)
    found = memory_around(boxes, on_finest(state, values), rows_of(1, 0, 1))
    torch.testing.assert_close(found[..., 0], torch.tensor([[2.0] * 2, [1.0] * 2, [2.0] * 2]))


def test_padding_and_what_lies_beyond_the_canvas_do_not_count():
    state = make_state(1, extent=[(0.5, 1.0)])
    values = torch.where(columns(state) < 0.5, 3.0, 100.0)
    # Half of the first ellipse lies in the padding, of the second beyond the canvas.
    boxes = torch.tensor([[[0.5, 0.5, 0.4, 0.4], [0.0, 0.5, 0.4, 0.4]]])
    found = memory_around(boxes, on_finest(state, values), rows_of(0, images=1))
    torch.testing.assert_close(found, torch.full_like(found, 3.0))


def test_around_a_box_beyond_the_image_there_is_nothing():
    state = make_state(1, extent=[(0.25, 1.0)])
    found = memory_around(torch.tensor([[[0.9, 0.5, 0.1, 0.1]]]), state, rows_of(0, images=1))
    assert (found == 0).all()


def test_sets_of_queries_are_read_as_each_alone():
    state, per_image, boxes = make_state(), rows_of(0, 1, 1), random_boxes(2, 3, 5)
    found = memory_around(boxes, state, per_image)
    torch.testing.assert_close(
        found, torch.stack([memory_around(one, state, per_image) for one in boxes]))


@pytest.fixture
def scored():
    """A word list and a sentence about three queries whose surroundings stand behind."""
    text = TextEmbeddings(torch.randn(2, 2, WIDTH), torch.randn(2, 2, WIDTH),
                          torch.tensor([[True, True], [True, False]]),
                          torch.tensor([True, False]), torch.randn(2, 2, DIMS))
    return torch.randn(2, 3, 2 * WIDTH), random_boxes(2, 3), text


def test_sentences_gain_five_times_the_product_of_the_projections(scored):
    head, (queries, boxes, text) = SimilarityHead(WIDTH, relation=True, surroundings=DIMS), scored
    gained = head(queries, boxes, text) - head(queries, boxes, replace(text, surroundings=None))
    expected = 5.0 * head.surroundings.visual(queries[1, :, WIDTH:]) @ text.surroundings[1, 0]
    torch.testing.assert_close(gained[1, :, 0], expected, atol=1e-4, rtol=1e-5)
    assert (gained[0] == 0).all()


def test_by_content_alone_surroundings_do_not_count(scored):
    queries, boxes, text = scored
    head = SimilarityHead(WIDTH, relation=True, surroundings=DIMS)
    alone = head(queries[..., :WIDTH], boxes, text.content_only())
    torch.testing.assert_close(head(queries, boxes, text.content_only()), alone)
    assert (head(queries, boxes, text)[1, :, 0] - alone[1, :, 0]).abs().min() > 1e-4


@pytest.fixture(scope='module')
def asked(tokenizer_path):
    """A perception head with surroundings, and what it is asked."""
    head = build_model(tokenizer_path, perception=HEAD).perception.eval()
    batch = make_batch(['word', 'sentence', 'sentence'], [2, 1, 1], [0, 0, 1])
    dims = head.surroundings_text[-1].in_features
    return head, make_state(2), batch, torch.randn(3, 2, dims), torch.randn(3, dims)


def test_at_the_start_nothing_changes(asked, tokenizer_path):
    head, *question = asked
    plain = build_model(tokenizer_path, perception=dict(
        similarity_head=dict(relation=True))).perception.eval()
    plain.load_state_dict({name: value for name, value in head.state_dict().items()
                           if 'surroundings' not in name})
    with torch.no_grad():
        for found, expected in zip(head.predict(*question), plain.predict(*question), strict=True):
            torch.testing.assert_close(found, expected)


def test_the_projection_of_sentences_learns_from_the_start(asked):
    head, state, batch, pooled, summary = asked
    head.zero_grad()
    head.predict(state, batch, pooled, summary)[0][1:, :, 0].sum().backward()
    assert head.surroundings_text[-1].weight.grad.abs().max() > 0
