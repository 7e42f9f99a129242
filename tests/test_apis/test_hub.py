# Copyright (c) mvp_mm authors. All rights reserved.
"""One folder holds a model: saved, moved, loaded from a folder or a hub, never executed."""
from __future__ import annotations

import json
import shutil

import huggingface_hub
import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from PIL import Image

from mvp_mm.apis import MVP, hub
from mvp_mm.apis.model_card import read_metrics
from mvp_mm.utils import named_weights
from mvp_mm.utils.named_weights import find_weights, zoo_models
from mvp_mm.utils.shipped import find_shipped

QUESTION = dict(words=['circle', 'grass'], task='instance', thinking=False, threshold=0.)
IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8))


@pytest.fixture(scope='module')
def model(checkpoint):
    return MVP(checkpoint, 'cpu')


@pytest.fixture(scope='module')
def folder(model, tmp_path_factory):
    root = tmp_path_factory.mktemp('published')
    (root / 'metrics.json').write_text(json.dumps({'coco/PQ': 12.5, 'coco/mIoU': 20.25}))
    model.save_pretrained(root / 'my_model', model_card_kwargs=dict(
        license='mit', datasets=['coco'], metrics=root / 'metrics.json'))
    shutil.move(root / 'my_model', root / 'elsewhere')
    return root / 'elsewhere'


def same(first, second):
    return np.array_equal(first.boxes, second.boxes) and np.array_equal(
        first.scores, second.scores) and first.labels == second.labels


def test_a_moved_folder_answers_as_the_model_did(model, folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    expected = model(IMAGE, **QUESTION)
    for loaded in (MVP(folder, 'cpu'), MVP.from_pretrained(folder, device='cpu')):
        assert same(loaded(IMAGE, **QUESTION), expected)
        assert loaded._inferencer.trained_classes == model._inferencer.trained_classes != {}


def test_a_folder_holds_weights_config_tokenizer_and_card(folder):
    names = {path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file()}
    assert {'model.safetensors', 'config.json', 'README.md', 'tokenizer/tokenizer.json'} <= names
    assert not any(name.endswith(('.py', '.pth', '.bin', '.pkl')) for name in names)


def test_a_published_model_is_published_again(folder, tmp_path):
    loaded = MVP(folder, 'cpu')
    loaded.save_pretrained(tmp_path / 'again')
    assert same(MVP(tmp_path / 'again', 'cpu')(IMAGE, **QUESTION), loaded(IMAGE, **QUESTION))


def test_the_card_has_the_hub_s_fields(folder):
    card = ModelCard.load(folder / 'README.md')
    assert card.data.license == 'mit' and card.data.datasets == ['coco']
    assert card.data.library_name == 'mvp_mm'
    assert [(r.dataset_name, r.metric_type, r.metric_value) for r in card.data.eval_results] == [
        ('coco', 'PQ', 12.5), ('coco', 'mIoU', 20.25)]
    assert '| coco | PQ | 12.5 |' in card.text and "MVP('my_model')" in card.text


def test_a_card_states_nothing_that_nobody_said(model):
    card = model.generate_model_card(name='x')
    assert 'Not measured.' in card.text and 'The licence of the weights is not stated' in card.text
    assert card.data.license is None and card.data.eval_results is None


def test_a_folder_with_something_in_it_is_left_alone(model, tmp_path):
    (tmp_path / 'config.json').write_text('mine')
    with pytest.raises(FileExistsError, match='not an empty folder'):
        model.save_pretrained(tmp_path)
    assert (tmp_path / 'config.json').read_text() == 'mine'


def test_a_wrong_card_leaves_no_folder(model, tmp_path):
    (tmp_path / 'metrics.json').write_text('[1]')
    with pytest.raises(ValueError, match='does not hold figures'):
        model.save_pretrained(tmp_path / 'out', model_card_kwargs=dict(
            metrics=tmp_path / 'metrics.json'))
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('content', ['{', '{"a": "b"}', '{"a": true}'])
def test_metrics_are_figures_by_name(tmp_path, content):
    (tmp_path / 'm.json').write_text(content)
    with pytest.raises(ValueError, match=r'm\.json'):
        read_metrics(tmp_path / 'm.json')


def test_of_a_repository_only_what_is_read_is_fetched(folder, monkeypatch):
    asked = []
    monkeypatch.setattr(hub, 'snapshot_download', lambda *args, **options: asked.append(
        (args, options)) or str(folder))
    MVP.from_pretrained('someone/some-model', device='cpu', revision='v1')
    assert asked == [(('someone/some-model',), dict(
        allow_patterns=['model.safetensors', 'config.json', 'tokenizer/*'], revision='v1'))]


def test_a_name_without_an_owner_is_of_the_zoo_and_nothing_is_fetched(folder, monkeypatch):
    monkeypatch.setattr(hub, 'snapshot_download', None)
    monkeypatch.setattr(named_weights, 'zoo_models', lambda index: {
        'mine': dict(Name='mine', Weights=str(folder))})
    assert MVP.from_pretrained('mine', device='cpu').tasks == MVP(folder, 'cpu').tasks
    with pytest.raises(FileNotFoundError, match='no such file or folder: min, .*known are mine'):
        MVP.from_pretrained('min')


def test_the_whole_folder_is_pushed(model, monkeypatch):
    pushed = []
    api = huggingface_hub.hub_mixin.HfApi
    monkeypatch.setattr(api, 'create_repo', lambda self, repo_id, **_: type(
        'Url', (), dict(repo_id=repo_id)))
    monkeypatch.setattr(api, 'upload_folder', lambda self, *, folder_path, repo_id, **_:
                        pushed.append((repo_id, sorted(p.name for p in folder_path.iterdir()))))
    model.push_to_hub('me/mine')
    assert pushed == [('me/mine', ['README.md', 'config.json', 'model.safetensors', 'tokenizer'])]


def test_classes_of_a_published_config_are_checked(folder, tmp_path):
    shutil.copytree(folder, tmp_path / 'x')
    config = json.loads((tmp_path / 'x/config.json').read_text())
    config['classes'] = dict(circle='yes')
    (tmp_path / 'x/config.json').write_text(json.dumps(config))
    with pytest.raises(ValueError, match='whether it is a thing'):
        MVP(tmp_path / 'x', 'cpu')


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(FileNotFoundError, match='mvplm_swin-b_phi-1.5, tiny'):
        MVP('no-such-model')
    with pytest.raises(FileNotFoundError, match='No weights of MVPLM_Swin-B_Phi-1.5 are'):
        MVP('MVPLM_Swin-B_Phi-1.5')


def test_a_name_of_an_index_is_its_weights(tmp_path):
    (tmp_path / 'w').mkdir()
    (tmp_path / 'w/config.json').touch()
    (tmp_path / 'metafile.yml').write_text(yaml.safe_dump(dict(Models=[
        dict(Name='Here', Weights='w'), dict(Name='gone', Weights='v')])))
    assert find_weights('here', tmp_path / 'metafile.yml') == tmp_path / 'w'
    with pytest.raises(FileNotFoundError, match='are not here'):
        find_weights('gone', tmp_path / 'metafile.yml')


def test_every_model_of_the_zoo_has_a_config():
    for name, model in zoo_models().items():
        assert find_shipped(model['Config']).is_file(), name
