# Copyright (c) mvp_mm authors. All rights reserved.
"""Query selection, decoder and denoising of the released variant against the recordings."""
from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mvp_mm.converters import convert_layout
from mvp_mm.models.heads import TextEmbeddings
from mvp_mm.models.losses import ImageShares
from mvp_mm.models.position import inverse_sigmoid
from mvp_mm.models.released.heads import MemorySimilarity
from mvp_mm.models.released.query_generator import ReleasedSelection
from mvp_mm.models.state import DecoderQueries, QueriesPerImage
from tests.test_converters.golden import load, needs_golden
from tests.test_converters.released import (
    LOSSES,
    finest_first,
    image_state,
    instructions,
    load_task,
    maps_state,
    masks_at,
    recorded_name,
    released_head,
    replay,
    targets_of,
    token_order,
)
from tests.test_models.parts import make_state

TASKS = ['panoptic', 'detection', 'referring']
DENOISING = ['0_panoptic_3_5', '1_detection_4_2', '2_detection_0_3', '3_detection_7_20']
every_task = pytest.mark.parametrize('task', TASKS)


def close(found, expected, atol):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def recorded_columns(logits, width):
    """Our logits (..., K + 1) with the recording's columns: names, then background."""
    if width == 1:
        return logits[..., :1]
    return torch.cat([logits[..., :width - 1], logits[..., -1:]], -1)


def check_predictions(found, expected, state, names, atol):
    """Compare sets of predictions with the recorded ones of the given names."""
    masks = torch.einsum('srqc,rchw->srqhw', found.mask_embed, state.mask_features)
    assert len(found.logits) == len(names)
    for i, name in enumerate(names):
        kind = 'SEG' if f'{name}pred_SEG_logits' in expected else 'class_name'
        logits = expected[f'{name}pred_{kind}_logits']
        close(recorded_columns(found.logits[i], logits.shape[-1]), logits, atol)
        close(found.boxes[i], expected[f'{name}pred_boxes'], atol)
        close(masks[i], expected[f'{name}pred_masks'], atol)


LAYERS = ['aux_outputs.0.', 'aux_outputs.1.', 'aux_outputs.2.', '']


@needs_golden
@every_task
def test_selection_scores_every_token_as_recorded(task):
    recorded, text, batch = load_task('B_query_selection', task)
    head, state = released_head(recorded), maps_state(recorded)
    order = token_order(recorded['mid']['spatial_shapes'])
    similarity = MemorySimilarity(head.similarity_head, batch.is_word)
    with torch.no_grad():
        features = head.query_generator.selection.project(state.memory)
        found = similarity(features, text, QueriesPerImage(batch.image_index, 2)).transpose(1, 2)
    close(features[:, order], recorded['mid']['output_memory'], 5e-5)
    expected = recorded['out']['similarity_raw']
    close(found[:, order, :expected.shape[-1]], expected, 5e-5)


@needs_golden
@every_task
def test_selected_queries_and_their_boxes_are_the_recorded_ones(task):
    recorded, text, batch = load_task('B_query_selection', task)
    head, state = released_head(recorded), maps_state(recorded)
    with torch.no_grad():
        queries = head.generate_queries(
            state, batch, text, None, QueriesPerImage(batch.image_index, 2))
        found = head.add_stuff_queries(queries, batch)
    close(found.content, recorded['out']['seg_query'], 5e-5)
    close(inverse_sigmoid(found.boxes, 1e-5), recorded['out']['refpoint_embed_undetach'], 5e-5)
    assert found.allowed.all()


@needs_golden
def test_anchors_are_the_recorded_proposals():
    recorded, *_ = load_task('B_query_selection', 'detection')
    state = maps_state(recorded)
    anchors = ReleasedSelection(64, 12).anchors(state)
    order = token_order(recorded['mid']['spatial_shapes'])
    close(inverse_sigmoid(anchors[order], 1e-5), recorded['mid']['output_proposals'][0], 1e-5)


def test_anchors_near_the_border_are_never_selected():
    torch.manual_seed(0)
    # A wide map: its first and last columns lie within a hundredth of the border.
    state = make_state(1, shapes=[(1, 64), (1, 1), (1, 1), (1, 1)])
    selection = ReleasedSelection(32, 60)

    def by_column(features, text, rows):
        assert features.shape[1] == 67
        return torch.arange(67.)[None, None]

    queries = selection(
        state, torch.zeros(1, 1, 32), torch.ones(1, 1, dtype=torch.bool),
        QueriesPerImage(torch.zeros(1, dtype=torch.long), 1), by_column, lambda q, anchors: anchors)
    columns = queries.boxes[0, :, 0]
    assert columns.min() > 0.01 and columns.max() < 0.99


@needs_golden
@every_task
def test_the_decoder_predicts_after_every_layer_what_was_recorded(task):
    recorded, text, batch = load_task('C_decoder', task)
    head, given = released_head(recorded), recorded['in']
    shapes = given['spatial_shapes']
    state = image_state(
        finest_first(given['src_flatten'], shapes), shapes.flip(0), given['mask_features'])
    normed, codes = [], []
    head.decoder.norm.register_forward_hook(lambda *args: normed.append(args[2]))
    head.decoder.position.register_forward_hook(lambda *args: codes.append(args[1:]))
    queries = given['seg_query'].shape[1]
    valid = torch.ones(2, queries, dtype=torch.bool)
    with torch.no_grad():
        found, denoised = head.predict_layers(
            state, batch, TextEmbeddings(text, None, batch.phrase_mask, batch.is_word),
            DecoderQueries(given['seg_query'], given['refpoint_embed'].sigmoid(),
                           valid[:, None].expand(-1, queries, -1), valid), None)
    assert denoised is None
    for layer in range(3):
        # The norm runs on the initial queries, then twice a layer.
        close(normed[1 + 2 * layer], recorded['mid'][f'hs.{layer}'], 5e-5)
        (code, ), position = codes[layer]
        close(code, recorded['mid'][f'query_sine_embed.{layer}'], 5e-5)
        close(position, recorded['mid'][f'query_pos.{layer}'], 5e-5)
    check_predictions(found, recorded['out'], state, LAYERS, 5e-5)


def noise(recorded, task, monkeypatch, rand, text):
    batch = instructions(task, *text.shape[:2])
    targets = targets_of(recorded, batch)
    head = released_head(dict(sd={'predictor.enc_output.weight': torch.zeros(64, 64)}))
    replay(monkeypatch, 'rand_like', rand)
    return head.denoising(targets, batch, text), batch, targets


@needs_golden
@pytest.mark.parametrize('name', DENOISING)
def test_denoising_queries_are_the_recorded_ones(name, monkeypatch):
    recorded = load(f'D_denoising_{name}')
    text = recorded['in']['class_name_embedding']
    found, batch, _ = noise(recorded, name[2:], monkeypatch, recorded['in']['rand'], text)
    close(found.content, recorded['out']['input_query_label'], 1e-6)
    close(found.box_logits, recorded['out']['input_query_bbox'], 1e-6)
    queries = len(recorded['out']['attn_mask']) - found.content.shape[1]
    valid = torch.ones(2, queries, dtype=torch.bool)
    behind = DecoderQueries(text.new_zeros(2, queries, 64), text.new_zeros(2, queries, 4),
                            valid[:, None].expand(-1, queries, -1), valid)
    allowed = found.in_front_of(behind).allowed
    assert torch.equal(~allowed, recorded['out']['attn_mask'].expand(2, -1, -1))


@needs_golden
@pytest.mark.parametrize('name', DENOISING)
def test_denoising_queries_know_the_targets_that_they_restore(name, monkeypatch):
    recorded = load(f'D_denoising_{name}')
    text = recorded['in']['class_name_embedding']
    found, _, targets = noise(recorded, name[2:], monkeypatch, recorded['in']['rand'], text)
    bookkeeping = {key.removeprefix('mask_dict.'): value for key, value in recorded['out'].items()}
    groups = len(bookkeeping['known_labels']) // len(bookkeeping['batch_idx'])
    row, slot = bookkeeping['batch_idx'].repeat(groups), bookkeeping['map_known_indice']
    taken = torch.zeros_like(found.valid)
    taken[row, slot] = True
    assert torch.equal(taken, found.valid)
    target = found.target[row, slot]
    assert torch.equal(targets.labels[row, target], bookkeeping['known_labels'])
    assert torch.equal(targets.boxes[row, target], bookkeeping['known_bboxs'])


@needs_golden
def test_too_many_targets_or_none_go_without_denoising(monkeypatch):
    recorded = load('D_denoising_3_detection_7_20')
    text = recorded['in']['class_name_embedding']
    _, batch, targets = noise(
        recorded, 'detection', monkeypatch, recorded['in']['rand'], text)
    denoising = released_head(load('C_decoder_detection')).denoising
    denoising.num_queries = 19
    assert denoising(targets, batch, text) is None
    none = replace(targets, valid=torch.zeros_like(targets.valid))
    denoising.num_queries = 20
    assert denoising(none, batch, text) is None
    sentences = replace(batch, is_word=torch.zeros_like(batch.is_word))
    assert denoising(targets, sentences, text) is None


def training_step(task, monkeypatch):
    """A head's predictions and what they were made from, with recorded noise."""
    recorded, text, batch = load_task('D_train_step', task)
    maps = [recorded['in'][f'multi_scale_features.{i}'] for i in range(4)]
    inputs = [*maps, recorded['in']['mask_features'], text]
    for tensor in inputs:
        tensor.requires_grad_(True)
    head, state = released_head(recorded).train(), maps_state(recorded, maps)
    targets = targets_of(recorded, batch)
    if 'dn_rand' in recorded['in']:
        replay(monkeypatch, 'rand_like', recorded['in']['dn_rand'])
    noised = head.denoising(targets, batch, text)
    embeddings = TextEmbeddings(text, None, batch.phrase_mask, batch.is_word)
    queries = head.generate_queries(
        state, batch, text, None, QueriesPerImage(batch.image_index, 2))
    main, denoised = head.predict_layers(
        state, batch, embeddings, head.add_stuff_queries(queries, batch), noised)
    main = head.add_selection(main, queries, embeddings)
    return recorded, inputs, head, (state, batch, targets), (main, denoised, noised)


@needs_golden
@every_task
def test_a_training_step_predicts_what_was_recorded(task, monkeypatch):
    recorded, _, _, (state, _, _), (main, denoised, _) = training_step(task, monkeypatch)
    check_predictions(main, recorded['out'], state, ['interm_outputs.', *LAYERS], 1e-4)
    if task == 'referring':
        assert denoised is None
    else:
        expected = {key.removeprefix('dn.'): value for key, value in recorded['out'].items()
                    if key.startswith('dn.')}
        check_predictions(denoised, expected, state, LAYERS, 1e-4)


@needs_golden
@every_task
def test_losses_and_gradients_of_a_training_step_are_the_recorded_ones(task, monkeypatch):
    recorded, inputs, head, (state, batch, targets), (main, denoised, noised) = training_step(
        task, monkeypatch)
    given, expected = recorded['in'], recorded['out']
    at_matching, at_losses = (masks_at(state.mask_features, targets, given[f'{name}_points'])
                              for name in ('matcher', 'loss'))
    matches = head.matcher(main, targets, batch.is_word, at_matching)
    means = head._named(head.criterion(
        main, targets, matches, batch.is_word, at_losses), selection=True)
    if denoised is not None:
        means |= head.denoising_loss(
            denoised, targets, noised, batch, at_losses, ImageShares.of(batch.image_index, 2))
    total, seen = 0.0, set()
    for name, mean in means.items():
        value = mean.total / mean.count.clamp(min=1e-6)
        total = total + value
        kind = name.rpartition('.')[2]
        key = recorded_name(name, len(head.decoder.layers)) if kind in LOSSES else None
        if key in expected:
            seen.add(key)
            torch.testing.assert_close(
                value / head.criterion.weights[kind], expected[key], rtol=1e-4, atol=1e-6)
        else:
            assert value == 0, name
    assert seen == {key for key in expected if key.startswith('loss.')}
    torch.testing.assert_close(total, expected['loss_total_weighted'], rtol=1e-4, atol=0)
    total.backward()
    gradients, _ = convert_layout({key: value for key, value in recorded['grad'].items()
                                   if not key.startswith('in.')}, num_heads=4, decoder_points=4)
    found = {f'perception.{name}': p.grad for name, p in head.named_parameters()}
    names = [*(f'multi_scale_features.{i}' for i in range(4)), 'mask_features',
             'SEG_embedding' if task == 'referring' else 'class_name_embedding']
    pairs = [(tensor.grad, recorded['grad'][f'in.{name}'])
             for name, tensor in zip(names, inputs, strict=True)]
    pairs += [(found[name], value) for name, value in gradients.state.items()]
    assert len(pairs) > 80
    for ours, theirs in pairs:
        if ours is None:
            assert not theirs.any()
        else:
            assert (ours - theirs).abs().max() <= 1e-3 * theirs.abs().max()
