# Copyright (c) mvp_mm authors. All rights reserved.
"""Which queries take part, and what they may see."""
from __future__ import annotations

import pytest
import torch

from mvp_mm.models.query_generators import QuerySet
from tests.helpers import build_model
from tests.test_models.parts import WIDTH, make_batch, random_boxes

DYNAMIC, STUFF = 8, 3


@pytest.fixture(scope='module')
def perception(tokenizer_path):
    return build_model(tokenizer_path).perception.eval()


def query_set(rows):
    return QuerySet(torch.randn(rows, DYNAMIC, WIDTH), random_boxes(rows, DYNAMIC))


def test_stuff_queries_are_seen_in_rows_that_ask_for_them_alone(perception):
    batch = make_batch(['stuff', 'word', 'sentence'], [2, 2, 1])
    queries = query_set(3)
    found = perception.add_stuff_queries(queries, batch)
    content, boxes, allowed, valid = found.content, found.boxes, found.allowed, found.valid
    assert content.shape == (3, DYNAMIC + STUFF, WIDTH)
    torch.testing.assert_close(content[:, :DYNAMIC], queries.content)
    torch.testing.assert_close(content[2, DYNAMIC:], perception.stuff.content)
    torch.testing.assert_close(boxes[0, DYNAMIC:], perception.stuff.boxes.sigmoid())
    assert valid.sum(1).tolist() == [DYNAMIC + STUFF, DYNAMIC, DYNAMIC]
    for r in range(3):
        for q in range(DYNAMIC + STUFF):
            for other in range(DYNAMIC + STUFF):
                assert allowed[r, q, other] == (r == 0 or other < DYNAMIC or other == q)


def test_without_such_rows_no_stuff_queries_are_added(perception):
    found = perception.add_stuff_queries(
        query_set(2), make_batch(['word', 'sentence'], [2, 1]))
    assert found.content.shape[1] == found.boxes.shape[1] == DYNAMIC
    assert found.allowed.all() and found.valid.all()


def test_queries_of_captions_take_no_part(perception):
    found = perception.add_stuff_queries(
        query_set(2), make_batch(['word', 'caption'], [2, 0]))
    assert found.valid[0].all() and not found.valid[1].any()
    assert torch.equal(found.allowed[1], torch.eye(DYNAMIC, dtype=torch.bool))
