# Copyright (c) mvp_mm authors. All rights reserved.
"""Another component by config alone: no Python changes, loss and prediction still run."""
from __future__ import annotations

import pytest
import torch
from mmengine.config import Config

from tests.helpers import ROOT, build_model, make_batch, make_samples, save_tokenizer

TIMM = dict(_delete_=True, type='TimmBackbone')
LLAMA_LIKE = dict(
    _delete_=True, vocab_size=512, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256)
SWAPS = {
    'timm resnet': dict(encoder=dict(backbone=dict(TIMM, model_name='resnet10t'))),
    'timm convnext': dict(encoder=dict(backbone=dict(
        TIMM, model_name='convnext_atto', model_args=dict(depths=(1, 1, 1, 1))))),
    'timm, channels last': dict(encoder=dict(backbone=dict(
        TIMM, model_name='swin_tiny_patch4_window7_224', model_args=dict(
            embed_dim=16, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), strict_img_size=False)))),
    'frozen encoder': dict(encoder=dict(frozen=True)),
    'llama': dict(llm=dict(config=dict(LLAMA_LIKE, model_type='llama'))),
    'qwen2': dict(llm=dict(config=dict(LLAMA_LIKE, model_type='qwen2'))),
    'phrases from two layers': dict(llm=dict(kept_layers=(0, -1))),
    'visual queries': dict(perception=dict(query_generator=dict(type='VisualQueryGenerator'))),
    'learnable queries': dict(
        perception=dict(query_generator=dict(type='LearnableQueryGenerator'))),
    'no denoising': dict(perception=dict(denoising=None)),
    'our additions': Config.fromfile(
        ROOT / 'configs/_base_/models/plus.py').to_dict()['_plus'],
    'sentences that share an object': dict(
        perception=dict(criterion=dict(ranking_weight=2.0, positive_iou=0.7)),
        answering=dict(same_iou=0.7)),
    'loss over targets': dict(perception=dict(criterion=dict(normalization='targets'))),
    'no thinking': dict(thinking=False),
}


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
    return save_tokenizer(tmp_path_factory.mktemp('tokenizer'))


@pytest.fixture(scope='module', params=SWAPS.values(), ids=SWAPS.keys())
def model(request, tokenizer):
    return build_model(tokenizer, **request.param)


def run(model, tokenizer, training, mode):
    """One image asked with a word list and with sentences."""
    groups = [[*make_samples('PanopticTask', tokenizer, training=training),
               *make_samples('ReferringSegmentationTask', tokenizer, training=training)]]
    data = model.data_preprocessor(make_batch(groups), training)
    return model.train(training)(**data, mode=mode)


def test_a_swapped_model_trains(model, tokenizer):
    losses = run(model, tokenizer, True, 'loss')
    total = model.parse_losses(losses)[0]
    total.backward()
    assert torch.isfinite(total)
    # Every part that is meant to train is reached by the loss.
    idle = [name for name, part in model.named_children()
            if any(p.requires_grad for p in part.parameters())
            and not any(p.grad is not None and p.grad.any() for p in part.parameters())]
    assert not idle


def test_a_swapped_model_answers(model, tokenizer):
    words, *sentences = run(model, tokenizer, False, 'predict')
    assert words.pred_panoptic_seg['panoptic'].shape == words.ori_shape
    assert sentences
    for sample in sentences:
        assert sample.pred_instances.masks.shape == (1, *sample.ori_shape)
        assert torch.isfinite(sample.pred_instances.bboxes).all()


def test_denoising_off_leaves_its_losses_out(tokenizer):
    on = run(build_model(tokenizer), tokenizer, True, 'loss')
    off = run(build_model(tokenizer, perception=dict(denoising=None)), tokenizer, True, 'loss')
    assert on.keys() - off.keys() == {name for name in on if name.startswith('denoise.')} != set()


def test_queries_without_selection_have_no_encoder_losses(tokenizer):
    model = build_model(
        tokenizer, perception=dict(query_generator=dict(type='LearnableQueryGenerator')))
    losses = run(model, tokenizer, True, 'loss')
    assert not [name for name in losses if name.startswith('enc.')]
    assert any(name.startswith('d0.') for name in losses)


def test_a_backbone_without_the_four_strides_is_refused(tokenizer):
    backbone = dict(TIMM, model_name='resnet10t', out_indices=(0, 1, 2, 3))
    with pytest.raises(ValueError, match=r'strides .*\[2, 4, 8, 16\].* need \[4, 8, 16, 32\]'):
        build_model(tokenizer, encoder=dict(backbone=backbone))
