# Copyright (c) mvp_mm authors. All rights reserved.
"""Gradients of the recorded training steps, under the released objective in plain loops."""
import pytest
import torch

from mvp_mm.converters import convert_layout
from mvp_mm.models.heads import TextEmbeddings
from mvp_mm.models.state import RowsByImage
from tests.test_converters.golden import needs_golden
from tests.test_converters.released import (
    load_task,
    maps_state,
    released_head,
    replay,
    targets_of,
)
from tests.test_converters.released_loss import WEIGHTS, matched_losses

pytestmark = needs_golden
SETS = dict(interm='_interm', aux0='_0', aux1='_1', aux2='_2', final='')


def train_step(task, monkeypatch):
    """Losses by recorded name, the head and the inputs, after the backward pass."""
    recorded, text, batch = load_task('D_train_step', task)
    given = recorded['in']
    inputs = {key: value.requires_grad_() for key, value in given.items()
              if key.startswith('multi_scale') or key == 'mask_features'
              or key.endswith('_embedding')}
    head, state = released_head(recorded).train(), maps_state(recorded)
    targets = targets_of(recorded, batch)
    if 'dn_rand' in given:
        replay(monkeypatch, 'rand_like', given['dn_rand'])
    noised = head.denoising(targets, batch, text, 12)
    embeddings = TextEmbeddings(text, None, batch.phrase_mask, batch.is_word)
    queries = head._generate(state, batch, text, None, RowsByImage(batch.image_index, 2))
    main, denoised = head._decode(
        state, batch, embeddings, *head._with_stuff(queries, batch), noised)
    main = head._add_selection(main, queries, embeddings)
    count = float(targets.valid.sum())
    losses = {}

    def masks_of(found, i):
        return torch.einsum('rqc,rchw->rqhw', found.mask_embed[i], state.mask_features)

    for i, (name, suffix) in enumerate(SETS.items()):
        pairs = [(recorded['out'][f'assign.{name}.{r}.query'],
                  recorded['out'][f'assign.{name}.{r}.gt']) for r in range(2)]
        values = matched_losses(main, i, masks_of(main, i), given, pairs, count, task)
        losses |= {key + suffix: value for key, value in values.items()}
    if denoised is not None:
        pairs = [(noised.valid[r].nonzero()[:, 0], noised.target[r, noised.valid[r]])
                 for r in range(2)]
        groups = int(noised.group.max()) + 1
        for i, suffix in enumerate(('_0_dn', '_1_dn', '_2_dn', '_dn')):
            values = matched_losses(denoised, i, masks_of(denoised, i), given, pairs,
                                    count * groups, task, denoising=True)
            losses |= {key + suffix: value for key, value in values.items()}
    total = sum(WEIGHTS[next(k for k in WEIGHTS if key.startswith(k))] * value
                for key, value in losses.items())
    total.backward()
    return losses, total, head, inputs, recorded


@pytest.mark.parametrize('task', ['panoptic', 'detection', 'referring'])
def test_losses_and_gradients_of_a_training_step_are_the_recorded_ones(task, monkeypatch):
    losses, total, head, inputs, recorded = train_step(task, monkeypatch)
    for key, value in losses.items():
        torch.testing.assert_close(
            value.detach(), recorded['out'][f'loss.{key}'], rtol=1e-4, atol=1e-6, msg=key)
    torch.testing.assert_close(
        total.detach(), recorded['out']['loss_total_weighted'], rtol=1e-4, atol=0)
    grads = recorded['grad']
    wanted = {key.removeprefix('in.'): grads.pop(key) for key in list(grads)
              if key.startswith('in.')}
    found = {key: value.grad for key, value in inputs.items()}
    done, _ = convert_layout(grads, num_heads=4, decoder_points=4)
    wanted |= done.state
    found |= {f'perception.{key}': p.grad for key, p in head.named_parameters()}
    assert wanted and not done.left
    for key, gradient in wanted.items():
        scale = gradient.abs().max().clamp(min=1e-6)
        assert (found[key] - gradient).abs().max() <= 1e-3 * scale, key
