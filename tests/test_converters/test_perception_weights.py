# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import mvp_mm.models  # noqa: F401  registers the components
from mvp_mm.converters import Rule, convert, convert_layout, read_weights
from mvp_mm.converters.swin import reorder_merging
from mvp_mm.registry import MODELS
from tests.helpers import ROOT
from tests.test_converters.golden import load, needs_golden

# The recordings' sizes.
SWIN = dict(type='mmdet.SwinTransformer', pretrain_img_size=128, embed_dims=32,
            depths=(2, 2, 2, 2), num_heads=(2, 4, 8, 16), window_size=4, drop_path_rate=0.0)
PIXEL_DECODER = dict(type='MSDeformPixelDecoder', in_channels=[32, 64, 128, 256], embed_dims=64,
                     num_layers=2, num_heads=4, feedforward=128,
                     position=dict(type='DetrPosition'))


def test_reordered_merging_equals_the_concatenation_of_slices():
    torch.manual_seed(0)
    maps, layer = torch.randn(2, 3, 4, 6), nn.Linear(12, 5, bias=False)
    slices = [maps[:, :, i::2, j::2] for i, j in ((0, 0), (1, 0), (0, 1), (1, 1))]
    expected = layer(torch.cat(slices, 1).flatten(2).transpose(1, 2))
    unfolded = nn.functional.unfold(maps, 2, stride=2).transpose(1, 2)
    torch.testing.assert_close(unfolded @ reorder_merging(layer.weight).T, expected)


def part(state, prefix):
    return {key.removeprefix(prefix): value for key, value in state.items()
            if key.startswith(prefix)}


@needs_golden
@pytest.mark.parametrize('image, features', [
    ('image', 'features'), ('image_odd', 'features_odd'), ('image_sq', 'features_sq')])
def test_a_converted_swin_reproduces_the_recording(image, features):
    recorded = load('H_swin')
    done, _ = convert_layout(recorded['sd'])
    swin = MODELS.build(SWIN)
    swin.eval()
    swin.load_state_dict(part(done.state, 'encoder.backbone.'))
    assert not done.left
    with torch.no_grad():
        maps = swin(recorded['in'][image])
    for level, found in enumerate(maps):
        torch.testing.assert_close(
            found, recorded['out'][f'{features}.{level}'], rtol=0, atol=1e-5)


@needs_golden
def test_a_converted_pixel_decoder_reproduces_the_recording():
    recorded = load('A_pixel_decoder')
    done, _ = convert_layout(recorded['sd'])
    decoder = MODELS.build(PIXEL_DECODER).eval()
    decoder.load_state_dict(part(done.state, 'pixel_decoder.'))
    assert not done.left
    inputs = tuple(recorded['in'][f'res{level}'] for level in (2, 3, 4, 5))
    with torch.no_grad():
        state = decoder(inputs, torch.ones(2, 2))
    torch.testing.assert_close(
        state['mask_features'], recorded['out']['mask_features'], rtol=0, atol=1e-5)
    maps = [recorded['out'][f'multi_scale_features.{level}'] for level in range(4)]
    torch.testing.assert_close(
        state['memory'], torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1),
        rtol=0, atol=1e-5)


def pixel_decoder_weights(order=(64, 128, 256, 256)):
    prefix = 'sem_seg_head.pixel_decoder.'
    state = {f'{prefix}input_proj.{i}.0.weight': torch.zeros(64, c, 1, 1)
             for i, c in enumerate(order)}
    return {f'{prefix}mask_features.weight': torch.zeros(64, 64, 1, 1), **state}


@pytest.mark.parametrize('order, message', [
    ((256, 128, 64), 'has 3 levels, ours has 4; leave it out with --encoder-only'),
    ((256, 128, 64, 256), 'counts its levels from the coarsest')])
def test_pixel_decoders_of_another_build_are_refused(order, message):
    with pytest.raises(ValueError, match=message):
        convert_layout(pixel_decoder_weights(order))


def test_unknown_layouts_are_refused():
    with pytest.raises(ValueError, match=r"unknown layout.*begins with \['conv1.weight'\]"):
        convert_layout({'conv1.weight': torch.zeros(1)})


def test_what_no_rule_knows_is_left():
    done, layout = convert_layout(
        {**pixel_decoder_weights(), 'sem_seg_head.predictor.x': torch.zeros(1)})
    assert done.left == ['sem_seg_head.predictor.x'] and 'MaskDINO' in layout.title
    assert 'pixel_decoder.extra.0.weight' in done.state


def test_two_keys_that_become_one_must_agree():
    rules = [Rule(r'[ab]\.x', 'x')]
    same = {'a.x': torch.ones(2), 'b.x': torch.ones(2)}
    assert list(convert(same, rules).state) == ['x']
    with pytest.raises(ValueError, match='a.x and b.x both become x and differ'):
        convert({**same, 'b.x': torch.zeros(2)}, rules)


class Harmful:
    def __reduce__(self):
        return print, ('run',)


def test_a_pickle_that_would_be_run_is_refused(tmp_path, capsys):
    path = tmp_path / 'a.pkl'
    path.write_bytes(pickle.dumps(dict(model=dict(x=np.ones(2)), other=Harmful())))
    with pytest.raises(ValueError, match=r'a\.pkl holds a Python object \(builtins\.print\)'):
        read_weights(path)
    assert 'run' not in capsys.readouterr().out
    assert read_weights(path, trust_pickle=True)['x'].tolist() == [1, 1]


def test_files_of_torch_are_read_with_their_nesting(tmp_path):
    torch.save(dict(model=dict(x=torch.ones(2)), step=3), tmp_path / 'a.pth')
    assert list(read_weights(tmp_path / 'a.pth')) == ['x']
    torch.save([1, 2], tmp_path / 'b.pth')
    with pytest.raises(ValueError, match='b.pth holds a list, not weights by name'):
        read_weights(tmp_path / 'b.pth')


def run(*args):
    command = [sys.executable, 'tools/model_converters/convert_weights.py',
               'configs/mvplm/tiny/stage2.py', *map(str, args)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_command_reports_and_writes_a_checkpoint(tmp_path):
    swin = MODELS.build(dict(SWIN, depths=(1, 1, 2, 1), num_heads=(1, 2, 4, 8)))
    torch.save({'backbone.patch_embed.proj.weight': swin.patch_embed.projection.weight.data,
                'head.weight': torch.zeros(3)}, tmp_path / 'a.pth')
    done = run(tmp_path / 'a.pth', '--out', tmp_path / 'out.pth')
    assert done.returncode == 0, done.stderr
    assert 'mapped: 1\n' in done.stdout and 'head.weight: 1' in done.stdout
    written = torch.load(tmp_path / 'out.pth', weights_only=True)['state_dict']
    assert list(written) == ['encoder.backbone.patch_embed.projection.weight']


def test_command_names_a_tensor_of_another_shape(tmp_path):
    torch.save({'backbone.patch_embed.proj.weight': torch.zeros(8, 3, 4, 4)}, tmp_path / 'a.pth')
    done = run(tmp_path / 'a.pth', '--out', tmp_path / 'out.pth')
    assert done.returncode == 2 and not (tmp_path / 'out.pth').exists()
    assert 'projection.weight: checkpoint (8, 3, 4, 4), model (32, 3, 4, 4)' in done.stderr


def test_command_refuses_a_pixel_decoder_under_other_position_codes(tmp_path):
    torch.save({'pixel_decoder.mask_features.bias': torch.zeros(96),
                'pixel_decoder.mask_features.weight': torch.zeros(96, 96, 1, 1)},
               tmp_path / 'a.pth')
    args = (tmp_path / 'a.pth', '--out', tmp_path / 'out.pth')
    done = run(*args)
    assert done.returncode == 2 and 'position.type=DetrPosition' in done.stderr
    done = run(*args, '--cfg-options', 'model.pixel_decoder.position.type=DetrPosition')
    assert done.returncode == 0 and (tmp_path / 'out.pth').exists(), done.stderr
