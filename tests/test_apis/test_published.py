# Copyright (c) mvp_mm authors. All rights reserved.
"""The published form of a model: JSON and safetensors, movable, checked."""
from __future__ import annotations

import json
import shutil

import pytest
import torch
from mmengine.config import Config

from mvp_mm.apis import PerceptionInferencer
from mvp_mm.apis.published import load_published, save_published
from mvp_mm.registry import MODELS
from tests.helpers import save_tokenizer, tiny_model_config


@pytest.fixture(scope='module')
def published(tmp_path_factory):
    """A folder, the model in it, and the LLM's and the tokenizer's sources, which are gone."""
    root = tmp_path_factory.mktemp('published')
    tokenizer = save_tokenizer(root / 'source')
    torch.manual_seed(0)
    config = Config(dict(model=tiny_model_config(tokenizer)))
    model = MODELS.build(config.model)
    # As of an LLM that was read from a GGUF file.
    model.llm.lm.config._model_name_or_path = 'Tiny Model 8k'
    model.llm.lm.save_pretrained(root / 'phi')
    config.model.llm = dict(type='CausalLM', pretrained=str(root / 'phi'))
    config.inferencer = dict(
        tasks=dict(panoptic=dict(type='PanopticTask')),
        pipeline=[dict(type='TokenizeRequests', tokenizer=config.model.tokenizer.to_dict(),
                       response_room=6), dict(type='PackPerceptionInputs')])
    config.work_dir, config.train_dataloader = '/secret/path', dict(batch_size=2)
    save_published(root / 'out', model, config)
    for name in ('source', 'phi'):
        shutil.rmtree(root / name)
    return root / 'out', model


def test_a_published_model_loads_from_wherever_it_was_moved(published, tmp_path):
    folder, model = published
    moved = tmp_path / 'elsewhere'
    shutil.copytree(folder, moved)
    asked = PerceptionInferencer(None, moved, 'cpu')
    for key, value in model.state_dict().items():
        assert torch.equal(value, asked.model.state_dict()[key]), key
    assert asked.config.model.tokenizer.path == str(moved / 'tokenizer')
    asked.model.check_tokenizer()


def test_a_published_folder_holds_data_and_no_paths_of_the_run(published):
    folder, _ = published
    assert sorted(p.name for p in folder.iterdir()) == [
        'config.json', 'model.safetensors', 'tokenizer']
    text = (folder / 'config.json').read_text()
    assert '/secret' not in text and str(folder.parent) not in text
    assert 'train_dataloader' not in json.loads(text)


def test_a_folder_that_is_not_empty_is_not_overwritten(published, tmp_path):
    folder, model = published
    (tmp_path / 'mine.txt').write_text('keep')
    config, *_ = load_published(folder)
    with pytest.raises(FileExistsError, match='is not an empty folder'):
        save_published(tmp_path, model, config)
    assert [p.name for p in tmp_path.iterdir()] == ['mine.txt']


def test_weights_that_are_not_finite_are_not_published(published, tmp_path):
    folder, _ = published
    config, state, _ = load_published(folder)
    broken = torch.nn.Linear(1, 1)
    broken.weight.data.fill_(float('inf'))
    with pytest.raises(ValueError, match='not finite, the first is weight'):
        save_published(tmp_path / 'new', broken, config)
    assert not (tmp_path / 'new').exists()


@pytest.mark.parametrize('damage, message', [
    ('flip', 'is damaged or another file'), ('cut', 'cut off or damaged'),
    ('json', 'not valid JSON'), ('format', 'is not of the format'),
    ('type', r"model.type: 'os.system' is no name"), ('escape', 'lies outside of its folder')])
def test_a_damaged_or_hostile_folder_is_refused(published, tmp_path, damage, message):
    moved = tmp_path / 'out'
    shutil.copytree(published[0], moved)
    weights, settings = moved / 'model.safetensors', moved / 'config.json'
    content, raw = json.loads(settings.read_text()), bytearray(weights.read_bytes())
    if damage == 'flip':
        raw[-2] ^= 1
    elif damage == 'cut':
        del raw[-8:]
    elif damage == 'format':
        content['format'] = 'other'
    elif damage == 'type':
        content['model'] = dict(type='os.system', command='true')
    elif damage == 'escape':
        content['model']['tokenizer']['path'] = '../..'
    weights.write_bytes(raw)
    settings.write_text(json.dumps(content) + ('}' if damage == 'json' else ''))
    with pytest.raises(ValueError, match=message):
        load_published(moved)
