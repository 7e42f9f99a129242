# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import pytest
import torch

from mvp_mm.models.decoders import MultiGranularityDecoder
from mvp_mm.models.heads import BoxHead
from mvp_mm.models.state import QueriesPerImage
from tests.test_models.parts import WIDTH, make_state, random_boxes

INDEX = [1, 0, 1]
QUERIES, LAYERS = 5, 3


@pytest.fixture
def decoder():
    decoder = MultiGranularityDecoder(
        WIDTH, num_layers=LAYERS, num_heads=4, num_points=2, feedforward=32).eval()
    for layer in decoder.layers:
        torch.nn.init.normal_(layer.cross_attention.sampling_offsets.weight, std=0.3)
    return decoder


@pytest.fixture
def box_head():
    head = BoxHead(WIDTH)
    torch.nn.init.normal_(head.delta[-1].weight)
    return head


@pytest.fixture
def inputs():
    allowed = torch.ones(3, QUERIES, QUERIES, dtype=torch.bool)
    return torch.randn(3, QUERIES, WIDTH), random_boxes(3, QUERIES), allowed


def decode(decoder, box_head, inputs, state, index=INDEX):
    per_image = QueriesPerImage(torch.tensor(index), len(state.memory))
    return decoder(*inputs, state, per_image, box_head)


def test_shapes_hold_the_initial_queries_and_every_layer(decoder, box_head, inputs):
    states, boxes = decode(decoder, box_head, inputs, make_state())
    assert states.shape == (LAYERS + 1, 3, QUERIES, WIDTH)
    assert boxes.shape == (LAYERS + 1, 3, QUERIES, 4)
    torch.testing.assert_close(states[0], decoder.norm(inputs[0]))
    torch.testing.assert_close(boxes[0], box_head(decoder.norm(inputs[0]), inputs[1]))


def test_each_layer_corrects_the_boxes_of_the_one_before(decoder, box_head, inputs):
    states, boxes = decode(decoder, box_head, inputs, make_state())
    reference = inputs[1]
    for layer in range(1, LAYERS + 1):
        torch.testing.assert_close(boxes[layer], box_head(states[layer], reference))
        reference = boxes[layer]


def test_rows_of_one_image_give_what_they_give_alone(decoder, box_head, inputs):
    state = make_state(extent=[(1.0, 0.5), (0.75, 1.0)])
    together = decode(decoder, box_head, inputs, state)
    for r, image in enumerate(INDEX):
        alone = decode(decoder, box_head, [x[r:r + 1] for x in inputs], state, [image])
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a[:, r:r + 1], b, atol=1e-5, rtol=1e-4)


def test_a_query_does_not_see_what_it_is_not_allowed_to(decoder, box_head, inputs):
    content, boxes, allowed = inputs
    allowed[:, :2, 2:] = False
    state = make_state()
    before = decode(decoder, box_head, inputs, state)
    content = content.clone()
    content[:, 2:] += 1.0
    after = decode(decoder, box_head, (content, boxes, allowed), state)
    torch.testing.assert_close(before[0][:, :, :2], after[0][:, :, :2])
    torch.testing.assert_close(before[1][:, :, :2], after[1][:, :, :2])
    # The other direction is open.
    content = inputs[0].clone()
    content[:, :2] += 1.0
    changed = decode(decoder, box_head, (content, boxes, allowed), state)
    assert (before[0][-1, :, 2:] - changed[0][-1, :, 2:]).abs().max() > 1e-3


def test_padded_memory_does_not_count(decoder, box_head, inputs):
    state = make_state(extent=[(0.5, 0.5), (0.75, 1.0)])
    before = decode(decoder, box_head, inputs, state)
    noise = torch.randn_like(state.memory) * 5
    state.memory = torch.where(state.padding_mask[..., None], noise, state.memory)
    after = decode(decoder, box_head, inputs, state)
    torch.testing.assert_close(before, after)


def test_a_box_s_gradient_stops_at_the_layer_before(decoder, box_head, inputs):
    # Corrections that ignore the queries leave the chain of references as the only way back.
    torch.nn.init.zeros_(box_head.delta[-1].weight)
    boxes = inputs[1].requires_grad_(True)
    _, refined = decode(decoder, box_head, (inputs[0], boxes, inputs[2]), make_state())
    through = [torch.autograd.grad(r.sum(), boxes, retain_graph=True)[0] for r in refined]
    assert all(through[i].abs().sum() > 0 for i in (0, 1))
    assert all((through[i] == 0).all() for i in range(2, LAYERS + 1))


def test_gradients_reach_every_weight_and_the_memory(decoder, box_head, inputs):
    state = make_state()
    state.memory.requires_grad_(True)
    states, boxes = decode(decoder, box_head, inputs, state)
    ((states * torch.randn_like(states)).sum() + boxes.sum()).backward()
    assert state.memory.grad.abs().sum() > 0
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize('in_content', [True, False])
def test_where_a_query_is_reaches_what_it_tells_the_others(in_content, box_head, inputs):
    decoder = MultiGranularityDecoder(
        WIDTH, num_layers=1, num_heads=4, num_points=2, feedforward=32,
        position_in_content=in_content).eval()
    # Everybody is heard alike: a moved query is noticed by what it tells, not by who listens.
    torch.nn.init.zeros_(decoder.layers[0].self_attention.in_proj_weight[:2 * WIDTH])
    content, boxes, allowed = inputs
    state, moved = make_state(), boxes.clone()
    moved[:, 0] = random_boxes(3, 1)[:, 0]
    before, after = (
        decode(decoder, box_head, (content, b, allowed), state)[0][-1, :, 1:]
        for b in (boxes, moved))
    assert torch.allclose(before, after, atol=1e-6) != in_content


def test_boxes_may_be_encoded_as_in_detr(box_head, inputs):
    decoder = MultiGranularityDecoder(
        WIDTH, num_layers=1, num_heads=4, num_points=2, feedforward=32, position_code='detr',
        position_in_content=False).eval()
    codes = []
    decoder.position.register_forward_pre_hook(lambda module, args: codes.append(args[0]))
    decode(decoder, box_head, inputs, make_state())
    # y first, with the temperature of 10 000; then x, width and height.
    box = inputs[1][1, 2]
    for block, value in enumerate((box[1], box[0], box[2], box[3])):
        for i in range(0, WIDTH // 2, 2):
            angle = value * 2 * torch.pi / 10000**(i / (WIDTH // 2))
            found = codes[0][1, 2, block * WIDTH // 2 + i:][:2]
            torch.testing.assert_close(found, torch.stack([angle.sin(), angle.cos()]))
    assert not any(isinstance(m, torch.nn.LayerNorm) for m in decoder.position)


def test_gradient_checkpointing_recomputes_layers_and_changes_nothing(decoder, box_head, inputs):
    runs, found = [], []
    decoder.train().layers[1].norm1.register_forward_hook(lambda *_: runs.append(1))
    state = make_state()
    for on in (False, True):
        decoder.gradient_checkpointing = on
        decoder.zero_grad()
        states, boxes = decode(decoder, box_head, inputs, state)
        (states.square().sum() + boxes.square().sum()).backward()
        found.append([p.grad for p in decoder.parameters()])
    assert len(runs) == 1 + 2
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_other_codes_are_refused():
    with pytest.raises(ValueError, match="decoder.position_code must be one of 'detr', 'cycles'"):
        MultiGranularityDecoder(WIDTH, position_code='sine')
