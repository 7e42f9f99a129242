# Copyright (c) mvp_mm authors. All rights reserved.
"""Nothing is computed twice, and the host waits for the device seldom: counted, not timed."""
from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mvp_mm.models.losses import SampledMasks, criterion, matcher
from mvp_mm.models.state import InstructionBatch
from tests.helpers import build_model, make_batch, make_samples

# Three images with seven instructions: word lists of both kinds, sentences, a caption.
IMAGES = (('PanopticTask', 'ReferringSegmentationTask'), ('DetectionTask', ), ('CaptionTask', ))


class Reads(TorchDispatchMode):
    """Counts the operations that make the host wait for a value of the device."""

    # On a GPU, nonzero and boolean indexing wait for the size of what they return.
    waiting = ('_local_scalar_dense', 'nonzero', 'masked_select', 'unique', 'bincount')

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        indices = args[1] if name in ('index', 'index_put', 'index_put_') else ()
        masks = [i for i in indices if i is not None and i.dtype == torch.bool]
        if name in self.waiting or masks:
            self.found[f'{name} by mask' if masks else name] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope='module')
def model(tokenizer_path):
    return build_model(tokenizer_path, encoder=dict(frozen=True))


@pytest.fixture
def data(model, tokenizer_path):
    def make(training=True, repeat=1, objects=3):
        groups = [[s for task in tasks for s in make_samples(
            task, tokenizer_path, training=training, seed=i, num_objects=objects)]
            for i, tasks in enumerate(IMAGES)]
        groups[0] = groups[0] * repeat
        return model.data_preprocessor(make_batch(groups), training)
    return make


@pytest.fixture
def calls(model):
    """Inputs of the parts' forward passes, and how often each ran."""
    seen = []
    handles = [
        getattr(model, part).register_forward_hook(
            lambda module, inputs, _, part=part: seen.append(
                (part, len(inputs[0]), torch.is_grad_enabled(), module.training)))
        for part in ('connector', 'llm')]
    handles.append(model.encoder.backbone.register_forward_hook(
        lambda module, inputs, _: seen.append(
            ('encoder', len(inputs[0]), torch.is_grad_enabled(), module.training))))
    handles.append(model.pixel_decoder.register_forward_hook(
        lambda module, inputs, _: seen.append(
            ('pixel_decoder', len(inputs[0][0]), torch.is_grad_enabled(), module.training))))
    yield seen
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize('repeat', [1, 3])
@pytest.mark.parametrize('mode', ['loss', 'predict'])
def test_image_parts_run_once_however_many_instructions(model, data, calls, mode, repeat):
    training = mode == 'loss'
    model.train(training)
    batch = data(training, repeat)
    model(**batch, mode=mode)
    images = [(part, count) for part, count, *_ in calls if part != 'llm']
    assert sorted(images) == [('connector', 3), ('encoder', 3), ('pixel_decoder', 3)]


def test_the_frozen_encoder_runs_in_eval_mode_without_gradients(model, data, calls):
    model.train()
    model(**data(), mode='loss')
    modes = {part: (grad, training) for part, _, grad, training in calls}
    assert modes['encoder'] == (False, False)
    assert modes['pixel_decoder'] == modes['llm'] == (True, True)


def test_the_llm_reads_every_instruction_once(model, data, calls):
    model.train()
    batch = data()
    rows = []
    run = model.llm.run
    model.llm.run = lambda embeds, *args, **kwargs: rows.append(
        embeds.shape[:2]) or run(embeds, *args, **kwargs)
    try:
        model(**batch, mode='loss')
    finally:
        del model.llm.run
    assert [part for part, *_ in calls].count('llm') == 1
    layout = InstructionBatch.collate(
        batch['data_samples'], torch.device('cpu'), model.per_id).host.layout
    assert len(layout.sharing) < len(batch['data_samples'])
    assert sum(count for count, _ in rows) == len(layout.sharing) and len(rows) <= 2


def test_the_vocabulary_is_asked_at_supervised_tokens_alone(model, data):
    model.train()
    batch = data()
    wanted = sum(int((s.instruction.labels[1:] != -100).sum()) for s in batch['data_samples'])
    rows = []
    head = model.llm.lm.get_output_embeddings()
    handle = head.register_forward_hook(
        lambda _, inputs, __: rows.append(inputs[0].shape[:-1].numel()))
    model(**batch, mode='loss')
    handle.remove()
    assert rows == [wanted]


def test_masks_are_made_for_matched_and_denoising_queries_alone(model, data, monkeypatch):
    model.train()
    rows, matched = [], []
    logits = SampledMasks.logits
    monkeypatch.setattr(SampledMasks, 'logits', lambda self, embed, index: rows.append(
        len(embed)) or logits(self, embed, index))
    masks = criterion.PerceptionCriterion.mask_losses
    monkeypatch.setattr(
        criterion.PerceptionCriterion, 'mask_losses',
        lambda self, p, t, m, g: matched.append(
            int((t.mask_index[m.rows, m.targets] >= 0).sum())) or masks(self, p, t, m, g))
    model(**data(), mode='loss')
    # The answering queries of all layers at once, then the denoising ones.
    assert len(rows) == 2 and rows == matched
    sets, objects = 4, 3 + 3 + 3
    assert rows[0] <= sets * objects


def test_all_assignments_need_one_copy_of_the_costs(model, data, monkeypatch):
    model.train()
    copies = []
    forward = matcher.HungarianMatcher.forward
    copy = torch.Tensor.cpu

    def counted(self, *args):
        monkeypatch.setattr(torch.Tensor, 'cpu', lambda x: copies.append(tuple(x.shape)) or copy(x))
        found = forward(self, *args)
        monkeypatch.setattr(torch.Tensor, 'cpu', copy)
        return found

    monkeypatch.setattr(matcher.HungarianMatcher, 'forward', counted)
    model(**data(), mode='loss')
    # Query selection, initial queries and two layers; caption rows are left out.
    (sets, rows, queries, targets), = copies
    assert (sets, queries, targets) == (4, 8 + 3, 3) and rows == 5


def counted(found, name):
    """A method of tensors that counts its calls."""
    method = getattr(torch.Tensor, name)

    def call(tensor, *args):
        found[name] += 1
        return method(tensor, *args)

    return call


def reads_of(model, batch, monkeypatch):
    """Waits in a training step; copies to the host are counted by the methods that make them."""
    model.train()
    with Reads() as reads, monkeypatch.context() as patch:
        for name in ('cpu', 'tolist'):
            patch.setattr(torch.Tensor, name, counted(reads.found, name))
        losses = model(**batch, mode='loss')
        sum(value for name, value in losses.items() if 'loss' in name).backward()
    model.zero_grad(set_to_none=True)
    return reads.found


def test_the_host_waits_as_often_whatever_the_batch_holds(model, data, monkeypatch):
    small = reads_of(model, data(), monkeypatch)
    large = reads_of(model, data(repeat=2, objects=6), monkeypatch)
    assert small == large
    # 12 of them are checks of one_hot that a GPU does without.
    assert sum(small.values()) <= 59, small
