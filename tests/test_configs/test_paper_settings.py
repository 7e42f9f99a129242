# Copyright (c) mvp_mm authors. All rights reserved.
"""The default configs are the paper's system: schedule, losses, mix, sizes, and no addition."""
from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.overrides import TorchFunctionMode

import mvp_mm.models  # noqa: F401  registers the components
from mvp_mm.models.position import DetrPosition, detr_embedding
from mvp_mm.registry import MODELS
from mvp_mm.structures import Answering
from tests.test_configs.comparing import CONFIGS, DEFAULTS_OF_ADDITIONS, flatten, read


@pytest.mark.parametrize('name, lr, decay, steps, batch', [
    ('stage1', 2e-3, 0.0, 4650, 128), ('stage2', 4e-5, 0.05, 80000, 64)])
def test_schedules_are_the_papers(full, name, lr, decay, steps, batch):
    cfg = full[name]
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', lr, decay)
    assert cfg.train_cfg.max_iters == steps
    assert cfg.total_batch_size == batch
    # The paper does not tell how a batch was spread; we assume eight GPUs.
    assert cfg.train_dataloader.batch_size * 8 == batch


@pytest.mark.parametrize('name', ['stage1', 'stage2'])
def test_warm_up_is_three_percent_then_cosine(full, name):
    warmup, cosine = full[name].param_scheduler
    steps = full[name].train_cfg.max_iters
    assert (warmup.type, cosine.type) == ('LinearLR', 'CosineAnnealingLR')
    assert warmup.end == cosine.begin == round(0.03 * steps + 1e-9)
    assert cosine.end == steps


def test_loss_weights_are_the_papers(full):
    criterion = full['stage2'].model.perception.criterion
    names = ('word', 'sentence', 'l1', 'giou', 'bce', 'dice')
    assert [criterion[f'{name}_weight'] for name in names] == [2.0, 2.0, 5.0, 2.0, 5.0, 5.0]


def test_the_matcher_weighs_as_the_losses_do(full):
    perception = full['stage2'].model.perception
    for name in ('l1', 'giou', 'bce', 'dice'):
        assert perception.matcher[f'{name}_weight'] == perception.criterion[f'{name}_weight']
    assert perception.matcher.class_weight == perception.criterion.word_weight


def test_queries_are_the_papers(full):
    perception = full['stage2'].model.perception
    assert perception.query_generator.type == 'DynamicQueryGenerator'
    assert (perception.query_generator.num_queries, perception.num_stuff_queries) == (100, 100)


@pytest.mark.parametrize('name', ['stage1', 'stage2'])
def test_images_are_resized_and_padded_to_1024(full, name):
    dataset = full[name].train_dataloader.dataset
    steps = {step.type: step for step in dataset.get('datasets', [dataset])[0].pipeline}
    assert tuple(steps['ResizeToCanvas'].scale) == tuple(steps['PadToCanvas'].size) == (1024, 1024)


@pytest.mark.parametrize('name, trainable', [('stage1', ['connector']), ('stage2', None)])
def test_trained_parts_are_the_papers(full, name, trainable):
    assert full[name].model.get('trainable') == trainable
    assert full[name].model.encoder.frozen and not full[name].model.llm.get('frozen')


def test_the_mix_is_the_papers(full):
    loader = full['stage2'].train_dataloader
    ratios, datasets = loader.sampler.ratios, loader.dataset.datasets
    share = {}
    for ratio, dataset in zip(ratios, datasets, strict=True):
        share[dataset.type] = share.get(dataset.type, 0) + ratio / sum(ratios)
    assert share == pytest.approx(dict(
        CocoPanopticDataset=0.333, RefCocoDataset=0.333, Objects365Dataset=0.167,
        GroundingDataset=0.167), abs=1e-3)


def test_images_of_referring_evaluation_stay_out_of_coco_training(full):
    coco = full['stage2'].train_dataloader.dataset.datasets[0]
    assert [Path(path).parent.name for path in coco.exclude_refs] == [
        'refcoco', 'refcoco+', 'refcocog']


class LinspaceOnCpu(TorchFunctionMode):
    """mmdet's Swin reads values of a linspace, which the meta device does not have."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.linspace:
            kwargs['device'] = 'cpu'
        return func(*args, **kwargs)


@pytest.fixture(scope='module')
def full_size_model(full):
    with torch.device('meta'), LinspaceOnCpu():
        return MODELS.build({**full['stage2'].model, 'llm': {
            **full['stage2'].model.llm, 'pretrained': None}})


@pytest.mark.parametrize('part, millions', [('encoder', 86.9), ('llm', 1418.3)])
def test_the_full_size_model_has_the_known_number_of_parameters(full_size_model, part, millions):
    count = sum(p.numel() for p in getattr(full_size_model, part).parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.1)


def test_stage_two_trains_all_but_the_encoder(full_size_model):
    trains = {name for name, part in full_size_model.named_children()
              if any(p.requires_grad for p in part.parameters())}
    assert trains == {'connector', 'llm', 'pixel_decoder', 'perception'}


PAPER = ('stage1', 'stage2', 'stage2_sharded', 'tiny/paper', 'eval/all',
         *(f'ablations/{path.stem}' for path in (CONFIGS / 'mvplm/ablations').glob('*.py')))


@pytest.mark.parametrize('name', PAPER)
def test_the_papers_configs_have_no_addition_of_ours(name):
    model = flatten(read(name).model.to_dict())
    assert {key: model.get(key, off) for key, off in DEFAULTS_OF_ADDITIONS.items()} == (
        DEFAULTS_OF_ADDITIONS)


def test_components_without_options_are_the_papers(full_size_model):
    perception = full_size_model.perception
    assert perception.similarity_head.relation is None and perception.relation_mlp is None
    assert not any(layer.position_in_content for layer in perception.decoder.layers)
    assert perception.decoder.encode is detr_embedding
    assert isinstance(full_size_model.pixel_decoder.position, DetrPosition)
    assert full_size_model.answering == Answering()
    assert (perception.criterion.sentence_reduction, perception.criterion.normalization) == (
        'mean', 'images')
