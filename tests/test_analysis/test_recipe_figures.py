# Copyright (c) mvp_mm authors. All rights reserved.
"""What a training recipe takes, counted without a GPU."""
from __future__ import annotations

import pytest

from mvp_mm.analysis.recipe_figures import count_recipe, hours
from mvp_mm.engine import load_config
from tests.helpers import ROOT

NARROW = {
    'canvas': (128, 128), 'model.embed_dims': 32, 'train_dataloader.batch_size': 4,
    'model.llm.config.num_hidden_layers': 1, 'model.llm.config.vocab_size': 512,
    'model.llm.config.hidden_size': 32, 'model.llm.config.intermediate_size': 64,
    'model.llm.config.num_attention_heads': 2, 'model.llm.config.num_key_value_heads': 1,
    'model.pixel_decoder.num_layers': 1, 'model.pixel_decoder.feedforward': 64,
    'model.perception.num_stuff_queries': 3, 'model.perception.decoder.num_layers': 1,
    'model.perception.query_generator.num_queries': 8,
    'model.perception.denoising.num_queries': 8, 'model.perception.decoder.feedforward': 64,
    'model.perception.matcher.num_points': 64, 'model.perception.criterion.num_points': 64,
}


def count(**options):
    return count_recipe(lambda: load_config(
        ROOT / 'configs/mvplm/small/lite0_smollm2-135m_512.py', {**NARROW, **options}))


@pytest.fixture(scope='module')
def trained():
    return count()


def test_memory_is_that_of_the_states_and_of_all_images(trained):
    assert trained['images'] == 4 and trained['frozen'] == 0
    assert trained['states_gib'] == pytest.approx(trained['trained'] * 1e6 * 16 / 2**30)
    # What is kept for all images at once comes on top of what each of them keeps.
    each = trained['states_gib'] + 4 * trained['activations_gib']
    assert each <= trained['gib'] < 1.1 * each


def test_a_frozen_encoder_keeps_no_activations(trained):
    frozen = count(**{'model.encoder.frozen': True, 'optim_wrapper.paramwise_cfg': None})
    assert frozen['frozen'] + frozen['trained'] == pytest.approx(trained['trained'])
    assert frozen['activations_gib'] < trained['activations_gib']
    assert frozen['tera_operations'] < trained['tera_operations']


def test_hours_are_those_of_all_images_at_the_rate():
    found = hours(dict(tera_operations=0.5, steps=1000, total_batch_size=16), 10e12)
    assert found['images_per_second'] == pytest.approx(20)
    assert found['hours'] == pytest.approx(16000 / 20 / 3600)
