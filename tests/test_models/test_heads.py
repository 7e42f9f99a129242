# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import math

import pytest
import torch

from mvp_mm.models.heads import BoxHead, MaskHead, SimilarityHead, TextEmbeddings
from mvp_mm.models.position import sine_embedding
from tests.test_models.parts import WIDTH, random_boxes

LOWEST = torch.finfo(torch.float32).min


@pytest.fixture(params=[True, False], ids=['relation', 'plain'])
def head(request):
    return SimilarityHead(WIDTH, init_scale=14.0, prior_queries=10, relation=request.param)


@pytest.fixture
def inputs():
    """Two sets of a word row with 2 of 3 phrases, a full word row and a sentence row."""
    mask = torch.tensor([[True, True, False], [True, True, True], [True, False, False]])
    text = TextEmbeddings(torch.randn(3, 3, WIDTH), torch.randn(3, 3, WIDTH), mask,
                          torch.tensor([True, True, False]))
    return torch.randn(2, 3, 4, WIDTH), random_boxes(2, 3, 4), text


def relation_by_hand(head, query, box, phrase):
    """Half the scale times the cosine of a relation and a visual embedding told its box."""
    if head.relation is None:
        return 0.0
    code = head.relation.position(sine_embedding(box, WIDTH // 2))
    return 7.0 * torch.cosine_similarity(head.relation.visual(query + code), phrase, dim=0)


def test_similarity_is_a_sum_of_scaled_cosines(head, inputs):
    queries, boxes, text = inputs
    mask, is_word = text.mask, text.is_word
    logits = head(*inputs)
    assert logits.shape == (2, 3, 4, 4)
    for s in range(2):
        for r in range(3):
            for q in range(4):
                visual = head.visual(queries[s, r, q])
                for k in range(3):
                    if not mask[r, k]:
                        continue
                    expected = 14.0 * torch.cosine_similarity(
                        visual, text.content[r, k], dim=0)
                    if not is_word[r]:
                        expected = expected - math.log(9.0) + relation_by_hand(
                            head, queries[s, r, q], boxes[s, r, q], text.relation[r, k])
                    torch.testing.assert_close(logits[s, r, q, k], expected, atol=1e-4, rtol=1e-4)
                if is_word[r]:
                    none = 14.0 * torch.cosine_similarity(visual, head.no_object, dim=0)
                    torch.testing.assert_close(logits[s, r, q, 3], none, atol=1e-4, rtol=1e-4)


def test_masked_phrases_never_reach_a_softmax(head, inputs):
    queries, boxes, text = inputs
    prob = head(*inputs).softmax(-1)
    assert (prob[:, 0, :, 2] == 0).all()
    shorter = TextEmbeddings(text.content[:1, :2], text.relation[:1, :2], text.mask[:1, :2],
                             text.is_word[:1])
    alone = head(queries[:, :1], boxes[:, :1], shorter).softmax(-1)
    torch.testing.assert_close(prob[:, :1, :, [0, 1, 3]], alone)


def test_masked_phrases_get_no_gradient(head, inputs):
    queries, boxes, text = inputs
    text.content.requires_grad_(True)
    head(queries, boxes, text)[:, :2].log_softmax(-1)[..., 0].sum().backward()
    grad = text.content.grad
    assert (grad[0, 2] == 0).all() and (grad[0, :2].abs().sum(-1) > 0).all()


def test_word_lists_do_not_train_the_relation(inputs):
    head = SimilarityHead(WIDTH, relation=True)
    queries, boxes, text = inputs
    text.relation.requires_grad_(True)
    head(queries, boxes, text)[:, :2, :, :2].sum().backward()
    assert (text.relation.grad == 0).all()
    assert all((p.grad == 0).all() for p in head.relation.parameters())


def test_similarity_moves_no_box(inputs):
    queries, boxes, text = inputs
    boxes.requires_grad_(True)
    queries.requires_grad_(True)
    SimilarityHead(WIDTH, relation=True)(queries, boxes, text)[:, 2, :, 0].sum().backward()
    assert boxes.grad is None and queries.grad.abs().sum() > 0


def test_a_sentence_tells_equal_queries_apart_by_their_boxes(inputs):
    queries, boxes, text = inputs
    same = queries[:, :, :1].expand_as(queries)
    logits = SimilarityHead(WIDTH, relation=True)(same, boxes, text)
    assert logits[:, 2, :, 0].std(-1).min() > 1e-3
    torch.testing.assert_close(logits[:, :2], logits[:, :2, :1].expand(-1, -1, 4, -1))


def test_without_the_relation_the_content_cosine_remains(inputs):
    queries, boxes, text = inputs
    head = SimilarityHead(WIDTH, relation=True)
    alone = head(queries, boxes, text.content_only())
    torch.testing.assert_close(alone[:, :2], head(queries, boxes, text)[:, :2])
    assert (alone[:, 2, :, 0] - head(queries, boxes, text)[:, 2, :, 0]).abs().max() > 1e-2
    torch.testing.assert_close(alone, head(queries, 1 - boxes, text.content_only()))


def test_copied_rows_stand_behind_the_others(inputs):
    text = inputs[2].with_copies(torch.tensor([1, 1]))
    assert text.mask.tolist()[3:] == [[True] * 3] * 2 and text.is_word.shape == (5,)
    assert torch.equal(text.content[4], text.content[1])
    assert torch.equal(text.relation[3], text.relation[1])


def test_sentence_rows_have_no_object_column_at_the_lowest_float(head, inputs):
    logits = head(*inputs)
    assert (logits[:, 2, :, 1:] == LOWEST).all()
    assert (logits[:, :2, :, 3] > LOWEST).all()


def test_the_sentence_bias_starts_at_one_target_among_the_queries():
    assert SimilarityHead(WIDTH, prior_queries=10).sentence_bias.sigmoid().item() == (
        pytest.approx(0.1))


def test_the_scale_is_bounded(head):
    with torch.no_grad():
        head.log_scale.fill_(math.log(1e4))
    assert head.scale.item() == 100.0


def test_the_length_of_text_does_not_matter(head, inputs):
    queries, boxes, text = inputs
    longer = TextEmbeddings(text.content * 7, text.relation * 3, text.mask, text.is_word)
    torch.testing.assert_close(head(queries, boxes, longer), head(*inputs))


def test_boxes_start_at_their_references():
    reference = random_boxes(2, 5)
    torch.testing.assert_close(BoxHead(WIDTH)(torch.randn(2, 5, WIDTH), reference), reference)


def test_box_corrections_add_in_logit_space():
    head = BoxHead(WIDTH)
    torch.nn.init.normal_(head.delta[-1].weight)
    queries, reference = torch.randn(2, 5, WIDTH), random_boxes(2, 5)
    expected = (head.delta(queries) + (reference / (1 - reference)).log()).sigmoid()
    found = head(queries, reference)
    torch.testing.assert_close(found, expected)
    assert (found - reference).abs().max() > 1e-2


def test_boxes_at_the_border_stay_finite():
    reference = torch.tensor([[[0.0, 1.0, 1e-9, 1.0]]], requires_grad=True)
    boxes = BoxHead(WIDTH)(torch.randn(1, 1, WIDTH), reference)
    boxes.sum().backward()
    assert boxes.isfinite().all() and reference.grad.isfinite().all()


def test_mask_embeddings_are_an_mlp_of_each_query():
    head, queries = MaskHead(WIDTH), torch.randn(2, 5, WIDTH)
    found = head(queries)
    torch.testing.assert_close(found[1, 3], head.embedding(queries[1, 3]))
    assert found.shape == queries.shape
