# Copyright (c) mvp_mm authors. All rights reserved.
"""The tiny configs and plus/ differ from the full-size ones in what they say alone."""
from __future__ import annotations

import pytest

import mvp_mm.models  # noqa: F401  registers the components
from tests.test_configs.comparing import DEFAULTS_OF_ADDITIONS, changes, differing, flatten, read

# What a tiny model may change: sizes, files, and which parts train.
TINY_MODEL_KEYS = {
    'connector.merge', 'embed_dims', 'encoder.backbone.depths', 'encoder.backbone.embed_dims',
    'encoder.backbone.num_heads', 'encoder.backbone.pretrain_img_size',
    'encoder.backbone.window_size', 'encoder.frozen', 'llm.config.hidden_size',
    'llm.config.intermediate_size', 'llm.config.max_position_embeddings',
    'llm.config.num_attention_heads', 'llm.config.num_hidden_layers', 'llm.config.vocab_size',
    # Narrow position codes have other frequencies.
    'perception.decoder.position_code', 'pixel_decoder.position.type',
    # Phrases of an LLM that starts from random weights read their input embeddings too.
    'llm.kept_layers', 'llm.gradient_checkpointing', 'llm.pretrained',
    'max_response_tokens', 'perception.criterion.num_points', 'perception.decoder.feedforward',
    'perception.decoder.num_heads', 'perception.decoder.num_layers',
    'perception.denoising.num_queries', 'perception.matcher.num_points',
    'perception.num_stuff_queries', 'perception.query_generator.num_queries',
    'pixel_decoder.feedforward', 'pixel_decoder.num_heads', 'pixel_decoder.num_layers',
    'tokenizer.max_length', 'tokenizer.num_visual_tokens', 'tokenizer.path', 'trainable'
}


TINY_OTHER_KEYS = {
    'canvas', 'default_hooks.checkpoint.interval', 'default_hooks.handover.pretrained_parts',
    'default_hooks.visualization.interval', 'default_hooks.visualization.type', 'load_from',
    'model_wrapper_cfg.bucket_cap_mb', 'optim_wrapper.clip_grad.max_norm', 'optim_wrapper.dtype',
    'optim_wrapper.optimizer.lr', 'param_scheduler', 'test_cfg.dtype', 'total_batch_size',
    'train_cfg.max_iters', 'train_cfg.val_interval', 'val_cfg.dtype', 'val_cfg.type'
}


DATA_KEYS = {'train_dataloader', 'test_dataloader', 'test_evaluator', 'inferencer',
             'val_dataloader', 'val_evaluator'}


TINY = dict(stage1='stage1', stage2='plus/stage2', paper='stage2')


# Tiny images carry questions of several datasets, which shares by image would not tell apart.
SHARED_IMAGES = {'perception.criterion.normalization', 'llm.loss_average'}


@pytest.mark.parametrize('name', TINY)
def test_tiny_models_differ_in_sizes_only(full, name):
    allowed = TINY_MODEL_KEYS | (SHARED_IMAGES if name != 'stage1' else set())
    tiny, large = read(f'tiny/{name}').model, full[TINY[name]].model
    found = {key for key in differing(large, tiny)
             if flatten(tiny).get(key) != DEFAULTS_OF_ADDITIONS.get(key, object)}
    assert found <= allowed


@pytest.mark.parametrize('name', TINY)
def test_the_rest_of_a_tiny_config_differs_in_data_schedule_and_pictures_only(full, name):
    other = [{key: value for key, value in cfg.items()
              if not key.startswith('_') and key not in DATA_KEYS | {'model'}}
             for cfg in (full[TINY[name]], read(f'tiny/{name}'))]
    assert differing(*other) <= TINY_OTHER_KEYS


def test_plus_is_the_papers_stage_two_and_our_additions(full):
    found = changes(full['plus/stage2'], full['stage2'])
    datasets = found.pop('train_dataloader.dataset.datasets')
    assert found == {
        'model.perception.similarity_head.relation': True,
        'model.perception.decoder.position_in_content': True,
        'model.perception.criterion.ranking_weight': 1.0,
        'model.perception.criterion.sentence_reduction': 'sum',
        'model.perception.criterion.sentence_weight': 0.2,
        'model.llm.loss_average': 'images'}
    sentences = [d['tasks'][0]['max_per_image'] for d in datasets
                 if d['type'] == 'RefCocoDataset']
    theirs = full['stage2'].train_dataloader.dataset.datasets
    assert sentences == [4] * 3
    assert [d.tasks[0].max_per_image for d in theirs if d.type == 'RefCocoDataset'] == [1] * 3


def test_the_benchmarks_of_plus_are_all_benchmarks():
    plus, paper = read('plus/eval'), read('eval/all')
    assert plus.test_dataloader == paper.test_dataloader
    assert plus.test_evaluator == paper.test_evaluator
    assert plus.model.perception.similarity_head.relation
