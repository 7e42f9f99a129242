# Copyright (c) mvp_mm authors. All rights reserved.
"""Decoders of MaskDINO, OpenSeeD and MVP-LM's authors in our layout."""
from __future__ import annotations

import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from transformers import PhiConfig

import mvp_mm.models  # noqa: F401  registers the components
from mvp_mm.converters import convert_layout
from mvp_mm.converters.decoder import flip_levels
from mvp_mm.models.released import ReleasedMVPLM
from mvp_mm.models.released.heads import TextProjectors
from mvp_mm.registry import MODELS
from tests.helpers import ROOT
from tests.test_converters.golden import load, needs_golden


def test_levels_turn_around_inside_every_head():
    # head · 1000 + level · 100 + point · 10 + x or y
    rows = torch.tensor([1000 * h + 100 * level + 10 * p + xy for h in range(2)
                         for level in range(4) for p in range(3) for xy in range(2)])
    expected = [1000 * h + 100 * level + 10 * p + xy for h in range(2)
                for level in (3, 2, 1, 0) for p in range(3) for xy in range(2)]
    assert flip_levels(rows, points=3, values=2).tolist() == expected


def test_rows_of_another_number_of_points_are_refused():
    with pytest.raises(ValueError, match='64 rows .* 4 levels × 5 points × 1'):
        flip_levels(torch.zeros(64), points=5, values=1)


def decoder():
    torch.manual_seed(0)
    built = MODELS.build(dict(type='DINODecoder', embed_dims=32, num_layers=2, num_heads=4,
                              num_points=2, feedforward=64))
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return built


def as_maskdino(built):
    """A decoder's weights under MaskDINO's names, by hand."""
    state = {}
    for key, value in built.state_dict().items():
        key = key.replace('self_attention', 'self_attn').replace('cross_attention', 'cross_attn')
        key = key.replace('feedforward.0', 'linear1').replace('feedforward.2', 'linear2')
        key = re.sub(r'(layers\.\d+)\.norm([12])', lambda m: f'{m[1]}.norm{3 - int(m[2])}', key)
        key = re.sub(r'^position\.(\d)', lambda m: f'ref_point_head.layers.{int(m[1]) // 2}', key)
        if 'sampling_offsets' in key:
            value = value.unflatten(0, (4, 4, 2, 2)).flip(1).flatten(0, 3)
        if 'attention_weights' in key:
            value = value.unflatten(0, (4, 4, 2)).flip(1).flatten(0, 2)
        state[f'sem_seg_head.predictor.decoder.{key}'] = value
    state['sem_seg_head.predictor.decoder_norm.weight'] = built.norm.weight.data
    state['sem_seg_head.predictor.decoder_norm.bias'] = built.norm.bias.data
    return state


# Gives the layout away.
MARK = {'sem_seg_head.pixel_decoder.mask_features.weight': torch.zeros(32, 32, 1, 1)}


def test_a_maskdino_decoder_is_taken_over_whole():
    built = decoder()
    done, layout = convert_layout({**MARK, **as_maskdino(built)}, decoder_points=2)
    assert 'MaskDINO' in layout.title and not done.left
    found = {key.removeprefix('perception.decoder.'): value for key, value in done.state.items()
             if key.startswith('perception.decoder.')}
    assert found.keys() == built.state_dict().keys()
    for key, value in built.state_dict().items():
        assert torch.equal(found[key], value), key


def test_without_a_decoder_of_this_kind_its_weights_are_left():
    state = as_maskdino(decoder())
    done, _ = convert_layout({**MARK, **state})
    assert done.left == list(state)


def test_box_heads_that_differ_between_layers_are_refused():
    name = 'sem_seg_head.predictor.decoder.bbox_embed.{}.layers.0.bias'
    state = {**MARK, name.format(0): torch.zeros(32), name.format(1): torch.ones(32)}
    with pytest.raises(ValueError, match=r'bbox_embed.0.* and .*bbox_embed.1.* differ'):
        convert_layout(state, decoder_points=2)


def run(config, *args):
    command = [sys.executable, 'tools/model_converters/convert_weights.py', config,
               *map(str, args)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_command_takes_the_authors_perception_into_the_released_config(tmp_path):
    state = {'predictor.enc_output.weight': torch.zeros(96, 96),
             'predictor.CLASS_proj.layers.1.bias': torch.zeros(96),
             'class_name_projector.weight': torch.zeros(96, 128),
             'stuff_query.weight': torch.zeros(6, 96), 'thing_query.weight': torch.zeros(24, 96)}
    torch.save(state, tmp_path / 'a.pth')
    done = run('configs/mvplm/released/tiny.py', tmp_path / 'a.pth', '--out',
               tmp_path / 'out.pth')
    assert done.returncode == 0, done.stderr
    assert 'mapped: 4\n' in done.stdout and 'thing_query.weight: 1' in done.stdout
    written = torch.load(tmp_path / 'out.pth', weights_only=True)['state_dict']
    assert set(written) == {
        'perception.query_generator.selection.project.0.weight',
        'perception.similarity_head.word.2.bias', 'perception.text_mlp.word.weight',
        'perception.stuff.content'}


def test_command_says_how_a_decoder_can_be_taken(tmp_path):
    state = {'backbone.patch_embed.proj.weight': torch.zeros(32, 3, 4, 4),
             'sem_seg_head.predictor.decoder.norm.weight': torch.zeros(96)}
    torch.save(state, tmp_path / 'a.pth')
    done = run('configs/mvplm/tiny/stage2.py', tmp_path / 'a.pth', '--out', tmp_path / 'out.pth')
    assert done.returncode == 0, done.stderr
    assert ('note: the decoder can be taken with model.perception.decoder.type=DINODecoder'
            in done.stdout)


def pooled(recorded, spans):
    """Phrases (R, K, D) of recorded hidden states as the released model pools them."""
    states = [recorded['out'][f'hidden_states.{i}'] for i in range(4)]
    index = recorded['in'][spans] - 1
    batch = SimpleNamespace(
        phrase_index=index, phrase_mask=torch.ones(2, int(index.max()) + 1, dtype=torch.bool))
    return ReleasedMVPLM.pool_text(None, states, batch)


@pytest.fixture(scope='module')
def projectors():
    done, _ = convert_layout(load('G_llm_text')['sd'] | MARK_AUTHORS, num_heads=4,
                             decoder_points=4)
    built = TextProjectors(64, 64)
    prefix = 'perception.text_mlp.'
    built.load_state_dict({key.removeprefix(prefix): value for key, value in done.state.items()
                           if key.startswith(prefix)})
    return built


MARK_AUTHORS = {'pixel_decoder.mask_features.weight': torch.zeros(64, 64, 1, 1)}


@needs_golden
def test_class_names_are_pooled_and_projected_as_recorded(projectors):
    recorded = load('G_llm_text')
    found = pooled(recorded, 'class_name_embedding_indices')
    torch.testing.assert_close(found, recorded['out']['class_name_pooled'], rtol=0, atol=1e-5)
    with torch.no_grad():
        found = projectors(found, torch.ones(2, dtype=torch.bool))
    torch.testing.assert_close(found, recorded['out']['class_name_projected'], rtol=0, atol=1e-5)


@needs_golden
def test_expressions_are_pooled_and_projected_as_recorded(projectors):
    recorded = load('G_llm_text')
    found = pooled(recorded, 'refer_embedding_indices')
    torch.testing.assert_close(found, recorded['out']['refer_pooled'], rtol=0, atol=1e-5)
    with torch.no_grad():
        found = projectors(found, torch.zeros(2, dtype=torch.bool))
    torch.testing.assert_close(found, recorded['out']['SEG_embedding'], rtol=0, atol=1e-5)


def test_command_takes_a_config_with_a_pretrained_llm(tmp_path):
    state = {'stuff_query.weight': torch.zeros(6, 96), 'predictor.enc_output.weight':
             torch.zeros(96, 96), 'predictor.CLASS_proj.layers.1.bias': torch.zeros(96)}
    torch.save(state, tmp_path / 'a.pth')
    # The layout alone is read: the folder holds no weights.
    PhiConfig(vocab_size=64, hidden_size=128, intermediate_size=32, num_hidden_layers=2,
              num_attention_heads=4).save_pretrained(tmp_path / 'phi')
    done = run('configs/mvplm/released/tiny.py', tmp_path / 'a.pth', '--out',
               tmp_path / 'out.pth', '--cfg-options', 'model.llm.config=None',
               f'model.llm.pretrained={tmp_path}/phi')
    assert done.returncode == 0, done.stderr
    assert 'mapped: 3\n' in done.stdout and (tmp_path / 'out.pth').exists()
