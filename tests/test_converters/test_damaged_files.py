# Copyright (c) mvp_mm authors. All rights reserved.
"""The converters name what a file is, in one line, and never advise to trust a damaged one."""
from __future__ import annotations

import json
import pickle
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save

from mvp_mm.cli.actions import convert_weights
from tests.helpers import ROOT, load_tool

CUT = save({'a': torch.ones(4)})[:-6]
PAGE, POINTER = b'<!DOCTYPE html><html>', b'version https://git-lfs.github.com/spec/v1\noid x\n'
DAMAGED = [
    ('w.safetensors', CUT, 'cut off'), ('w.safetensors', PAGE, 'an HTML page'),
    ('w.safetensors', POINTER, 'git-lfs pointer'), ('pytorch_model.bin', b'', 'is empty'),
    ('pytorch_model.bin', PAGE, 'an HTML page'), ('pytorch_model.bin', POINTER, 'git-lfs pointer'),
    ('pytorch_model.bin', b'PK\x03\x04cut', 'cut off')]


class Harmful:
    def __reduce__(self):
        return print, ('run',)


@pytest.fixture
def refuse(monkeypatch, capsys):
    """Run a converter that must end in one line; gives the line."""

    def run(name, *args):
        tool = load_tool(f'model_converters/{name}')
        if name == 'convert_weights':
            # No model is needed to refuse a file.
            parts = torch.nn.Module()
            parts.perception, parts.llm = torch.nn.Module(), torch.nn.Module()
            parts.perception.decoder, parts.llm.lm = torch.nn.Identity(), torch.nn.Identity()
            parts.llm.lm.config = type('Config', (), dict(num_attention_heads=2))
            monkeypatch.setattr(convert_weights, 'build_parts', lambda cfg: parts)
        monkeypatch.setattr(sys, 'argv', [name, *map(str, args)])
        with pytest.raises(SystemExit) as stopped:
            tool.main()
        assert stopped.value.code == 2
        line, = capsys.readouterr().err.splitlines()
        assert line.startswith(f'{name}: error: ')
        return line

    return run


@pytest.mark.parametrize('name, content, cause', DAMAGED)
def test_damaged_weights_are_named_by_both_converters(refuse, tmp_path, name, content, cause):
    path = tmp_path / name
    path.write_bytes(content)
    (tmp_path / 'config.json').write_text('{"model_type": "phi"}')
    for line in (
            refuse('convert_weights', ROOT / 'configs/mvplm/tiny/stage2.py', path,
                   '--out', tmp_path / 'out.pth'),
            refuse('convert_phi', tmp_path, '--out', tmp_path / 'out')):
        assert line.count(name) == 1 and cause in line
        assert 'trust' not in line and 'weights_only' not in line
    assert not (tmp_path / 'out.pth').exists() and not (tmp_path / 'out').exists()


def test_a_sound_pickle_with_objects_is_where_the_switch_is_named(refuse, tmp_path, capsys):
    path = tmp_path / 'w.pkl'
    path.write_bytes(pickle.dumps(dict(model=dict(x=np.ones(2)), other=Harmful())))
    line = refuse('convert_weights', ROOT / 'configs/mvplm/tiny/stage2.py', path,
                  '--out', tmp_path / 'out.pth')
    assert 'builtins.print' in line and '--trust-pickle' in line
    assert 'run' not in capsys.readouterr().out
    path.rename(tmp_path / 'pytorch_model.bin')
    (tmp_path / 'config.json').write_text('{"model_type": "phi"}')
    assert '--trust-pickle' not in refuse('convert_phi', tmp_path, '--out', tmp_path / 'out')


@pytest.mark.parametrize('content, cause', [
    ([1], 'holds a list'), (None, 'not valid JSON'), (dict(model_type='llama'), "is 'llama'")])
def test_a_config_that_is_none_of_phi_is_named(refuse, tmp_path, content, cause):
    (tmp_path / 'config.json').write_text('{' if content is None else json.dumps(content))
    assert cause in refuse('convert_phi', tmp_path, '--out', tmp_path / 'out')


def test_the_prefix_of_data_parallel_models_is_known(tmp_path):
    from mvp_mm.converters import convert_layout, read_weights
    torch.save({'module.backbone.patch_embed.proj.weight': torch.ones(8, 3, 4, 4)},
               tmp_path / 'w.pth')
    done, layout = convert_layout(read_weights(tmp_path / 'w.pth'))
    assert layout.title.startswith('detectron2')
    assert list(done.state) == ['encoder.backbone.patch_embed.projection.weight']
