# Copyright (c) mvp_mm authors. All rights reserved.
"""Files of first weights that a whole-model checkpoint makes superfluous."""
from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from mvp_mm.apis import PerceptionInferencer
from mvp_mm.engine import load_config
from mvp_mm.engine.config_files import missing_files
from mvp_mm.engine.replaced_weights import build_model, names_given
from mvp_mm.registry import MODELS
from mvp_mm.utils.checkpoint_io import peek_names, read_weights
from tests.helpers import ROOT, save_tokenizer, tiny_model_config

SHIPPED = ROOT / 'mvp_mm/weights/tiny/model.safetensors'
CONFIG = ROOT / 'configs/mvplm/tiny/pretrained.py'


@pytest.fixture(scope='module')
def settings(tmp_path_factory):
    """A model whose encoder starts from a file that is not there."""
    folder = tmp_path_factory.mktemp('model')
    cfg = tiny_model_config(save_tokenizer(folder))
    cfg['encoder']['backbone'] = dict(type='TimmBackbone', model_name='resnet10t',
                                      pretrained_path=str(folder / 'gone.pth'))
    return cfg


@pytest.fixture(scope='module')
def state(settings):
    backbone = dict(settings['encoder']['backbone'], pretrained_path=None)
    return MODELS.build(dict(
        settings, encoder=dict(settings['encoder'], backbone=backbone))).state_dict()


def test_a_part_that_the_checkpoint_holds_whole_needs_no_file(settings, state):
    model = build_model(settings, state)
    assert model.load_state_dict(state).missing_keys == []
    assert settings['encoder']['backbone']['pretrained_path'].endswith('gone.pth')


@pytest.mark.parametrize('left_out', ['encoder.backbone.model.conv1.0.weight', 'encoder.backbone.'])
def test_a_part_that_the_checkpoint_holds_in_part_is_read_from_its_file(
        settings, state, left_out):
    with pytest.raises(FileNotFoundError, match=r'gone\.pth'):
        build_model(settings, [key for key in state if not key.startswith(left_out)])


def test_tensors_that_a_model_computes_itself_may_be_left_out(settings, state):
    held = [key for key in state if not key.endswith('num_batches_tracked')]
    assert len(held) < len(state)
    assert build_model(settings, held).state_dict().keys() == set(state)


def test_the_weights_of_an_llm_folder_are_not_read_but_its_sizes_are(settings, state, tmp_path):
    sizes = dict(settings['llm']['config'])
    lm = AutoModelForCausalLM.from_config(MODELS.build(settings['llm']).lm.config)
    lm.half().config.save_pretrained(tmp_path)    # no file of weights
    llm = dict(settings['llm'], pretrained=str(tmp_path))
    llm.pop('config')
    model = build_model(dict(settings, llm=llm), state)
    assert model.llm.lm.config.hidden_size == sizes['hidden_size']
    assert {p.dtype for p in model.llm.parameters()} == {torch.float32}
    assert model.llm.state_dict().keys() == {
        key.removeprefix('llm.') for key in state if key.startswith('llm.')}


def test_an_llm_whose_vocabulary_is_full_has_a_row_for_per_as_in_training(settings, tmp_path):
    backbone = dict(settings['encoder']['backbone'], pretrained_path=None)
    settings = dict(settings, encoder=dict(settings['encoder'], backbone=backbone))
    full = AutoTokenizer.from_pretrained(settings['tokenizer']['path'])
    config = dict(settings['llm']['config'], vocab_size=len(full))
    lm = MODELS.build(dict(settings['llm'], config=config)).lm
    lm.save_pretrained(tmp_path)
    llm = {key: value for key, value in settings['llm'].items() if key != 'config'}
    settings = dict(settings, llm=dict(llm, pretrained=str(tmp_path)))
    trained = MODELS.build(settings)
    assert trained.llm.vocab_size == len(full) + 1
    tested = build_model(settings, trained.state_dict())
    tested.load_state_dict(trained.state_dict())
    tested.check_tokenizer()


def test_parts_that_a_checkpoint_took_from_elsewhere_are_not_replaced(tmp_path):
    path = tmp_path / 'trained.pth'
    torch.save(dict(meta=dict(pretrained_from={'llm': 'phi'}),
                    state_dict={'llm.lora': torch.ones(1), 'connector.x': torch.ones(1)}), path)
    assert names_given(path) == {'connector.x'}


def test_names_of_frozen_weights_in_another_file_count(tmp_path):
    torch.save({'encoder.x': torch.ones(1)}, tmp_path / 'base.pth')
    torch.save(dict(meta=dict(frozen_from=str(tmp_path / 'base.pth')),
                    state_dict={'connector.x': torch.ones(1)}), tmp_path / 'trained.pth')
    assert names_given(tmp_path / 'trained.pth') == {'connector.x', 'encoder.x'}


@pytest.mark.parametrize('name', ['a.pth', 'a.safetensors', 'nested.pth', 'legacy.pth'])
def test_names_are_those_that_reading_gives(tmp_path, name):
    path, weights = tmp_path / name, {'module.a.b': torch.ones(2), 'c': torch.zeros(1)}
    if path.suffix == '.safetensors':
        save_file(weights, path)
    else:
        torch.save(dict(model=weights) if name == 'nested.pth' else weights, path,
                   _use_new_zipfile_serialization=name != 'legacy.pth')
    assert peek_names(path) == set(read_weights(path)) == {'a.b', 'c'}


def test_what_is_no_file_of_weights_gives_no_names(tmp_path):
    (tmp_path / 'notes.pth').write_text('not weights')
    assert names_given(tmp_path / 'notes.pth') == names_given(tmp_path / 'gone.pth') == frozenset()


@pytest.mark.skipif(not SHIPPED.is_file(), reason='this checkout ships no weights')
class TestShippedWeights:
    """The encoder's first weights are written by a command, which nobody needs for these."""

    def config(self):
        cfg = load_config(CONFIG)
        cfg.model.encoder.backbone.pretrained_path = 'checkpoints/gone.safetensors'
        return cfg

    def test_a_test_does_not_ask_for_the_encoders_file(self):
        cfg = self.config()
        cfg.load_from = str(SHIPPED)
        assert not [line for line in missing_files(cfg, ['test']) if 'gone' in line]

    def test_a_training_from_nothing_still_does(self):
        told = list(missing_files(self.config(), ['train']))
        assert [line for line in told if 'encoder.backbone.pretrained_path' in line]

    def test_a_question_does_not_ask_for_it_either(self, tmp_path):
        path = tmp_path / 'own.py'
        path.write_text(f"""
_base_ = {str(CONFIG)!r}
model = dict(
    encoder=dict(backbone=dict(pretrained_path='gone.safetensors')),
    tokenizer=dict(path={str(SHIPPED.parent / 'tokenizer')!r}))
""")
        assert PerceptionInferencer(path, SHIPPED, device='cpu').model.encoder is not None
