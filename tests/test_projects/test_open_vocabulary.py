# Copyright (c) mvp_mm authors. All rights reserved.
"""The plugin that scores classes together with frozen features, here made up."""
from __future__ import annotations

import importlib
import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel

from mvp_mm.engine import check_config, load_config
from mvp_mm.registry import METRICS, TASKS
from mvp_mm.structures import RawPrediction
from mvp_mm.synthetic import WorldParameters, make_world
from tests.helpers import ROOT, save_tokenizer
from tests.test_tasks.raws import make_raw, make_sample
from tests.tool_runs import run_tool

PROJECT = ROOT / 'projects/open_vocabulary'
PHRASES = [f'phrase {k}' for k in range(4)]


@pytest.fixture(scope='module', autouse=True)
def plugin():
    """Reading the config is what loads the plugin."""
    load_config(PROJECT / 'configs/tiny.py')
    return importlib.import_module('projects.open_vocabulary.open_vocabulary')


def module(name):
    return importlib.import_module(f'projects.open_vocabulary.open_vocabulary.{name}')


@pytest.fixture
def folder(tmp_path):
    """Features that know each class by its row: quarter k of the image is of class k."""
    grid = np.zeros((4, 8, 8))
    for k in range(4):
        grid[k, 2 * k:2 * k + 2] = 1
    module('features').write_features(tmp_path, PHRASES, np.eye(4), [('x/picture.jpg', grid)])
    return tmp_path


def asked(logits, row, size=64):
    """A sample, and a query whose mask fills quarter ``row`` of an image without padding."""
    masks = torch.full((1, 16, 16), -9.0)
    masks[0, 4 * row:4 * row + 4] = 9.0
    sample = make_sample((True,) * 4, meta=dict(
        ori_shape=(size, size), img_shape=(size, size), batch_input_shape=(size, size),
        img_path='y/picture.jpg'))
    return RawPrediction(torch.tensor([logits]).log(), torch.full((1, 4), 0.5), masks, 1), sample


def task(folder, base=PHRASES, **settings):
    return TASKS.build(dict(type='EnsemblePanopticTask', features=str(folder),
                            base_classes=list(base), **settings))


def test_the_ensemble_is_the_geometric_mean_and_keeps_no_object(folder):
    raw, sample = asked([0.4, 0.2, 0.1, 0.1, 0.2], row=1)
    found = task(folder, PHRASES[:1], base_weight=0.25, novel_weight=0.75, scale=2.0).ensemble(
        raw, sample).exp()[0]
    outside = torch.tensor([0.0, 2.0, 0.0, 0.0]).softmax(0)
    known, weight = torch.tensor([0.5, 0.25, 0.125, 0.125]), torch.tensor([0.25, 0.75, 0.75, 0.75])
    expected = known ** (1 - weight) * outside ** weight
    torch.testing.assert_close(found[:4], 0.8 * expected / expected.sum(), rtol=1e-3, atol=1e-4)
    assert found[4] == pytest.approx(0.2)


def test_without_weight_the_answer_is_the_model_s(folder):
    raw = make_raw(3)
    sample = make_sample()
    sample.set_metainfo(dict(img_path='picture.jpg'))
    plain, ensemble = sample.new(), sample.new()
    TASKS.build(dict(type='PanopticTask')).decode(raw, plain)
    task(folder, base_weight=0.0, novel_weight=0.0).decode(raw, ensemble)
    assert torch.equal(plain.pred_panoptic_seg['panoptic'], ensemble.pred_panoptic_seg['panoptic'])
    torch.testing.assert_close(plain.pred_instances.scores, ensemble.pred_instances.scores)


@pytest.mark.parametrize('row', range(4))
def test_features_name_a_novel_class_that_the_model_does_not_know(folder, row):
    raw, sample = asked([0.3, 0.3, 0.2, 0.2, 0.0], row)
    task(folder, base=[]).decode(raw, sample)
    (segment, ) = sample.pred_panoptic_seg['segments_info']
    assert segment['label'] == row


def test_padding_of_the_canvas_is_no_part_of_the_features(folder):
    raw, sample = asked([0.3, 0.3, 0.2, 0.2, 0.0], row=1)    # lower half of a half-high image
    sample.set_metainfo(dict(img_shape=(32, 64), ori_shape=(16, 32)))
    task(folder, base=[]).decode(raw, sample)
    labels = [s['label'] for s in sample.pred_panoptic_seg['segments_info']]
    assert labels in ([2], [3])


def test_a_query_without_a_pixel_keeps_the_model_s_scores(folder):
    raw, sample = asked([0.4, 0.2, 0.1, 0.1, 0.2], row=0)
    raw.mask_logits = torch.full_like(raw.mask_logits, -9.0)
    torch.testing.assert_close(
        task(folder, base=[]).ensemble(raw, sample).exp(), raw.logits.exp(), rtol=1e-5, atol=1e-6)


def test_missing_features_are_named_with_their_file(folder):
    raw, sample = asked([0.4, 0.2, 0.1, 0.1, 0.2], row=0)
    sample.set_metainfo(dict(img_path='other.jpg'))
    with pytest.raises(FileNotFoundError, match=r'other\.npy: no features of the image other'):
        task(folder).decode(raw, sample)
    sample.set_metainfo(dict(img_path='picture.jpg'))
    sample.instruction.phrases = ['unheard', *PHRASES[1:]]
    with pytest.raises(KeyError, match=r"text\.npz: no vector of 'unheard'"):
        task(folder).decode(raw, sample)
    with pytest.raises(FileNotFoundError, match='no text features'):
        module('features').FeatureFolder(folder / 'nowhere')


def test_a_weight_outside_of_zero_to_one_is_refused(folder):
    with pytest.raises(ValueError, match='novel_weight must be in'):
        task(folder, novel_weight=1.5)


def test_a_class_is_base_by_any_of_its_names():
    classes = module('metric').BaseClasses
    assert 'road, route' in classes(['road']) and 'routes' not in classes(['road'])
    assert 'person' in classes('coco_stuff_171') and 'chandelier' not in classes('coco_stuff_171')


def test_base_and_novel_classes_are_reported_apart():
    metric = METRICS.build(dict(type='SplitPanopticQualityMetric', base_classes=['a']))
    found = metric.summarize([dict(a=(True, 0.8, 1, 0, 0), b=(True, 0.6, 1, 1, 1))])
    assert found['PQ_base'] == pytest.approx(80) and found['PQ_novel'] == pytest.approx(30)
    assert found['PQ'] == pytest.approx(55)


def test_clip_gives_a_map_without_padding_and_unit_vectors(tmp_path):
    torch.manual_seed(0)
    small = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    CLIPModel(CLIPConfig(
        text_config=dict(small, vocab_size=512, max_position_embeddings=64, eos_token_id=0,
                         bos_token_id=0, pad_token_id=0),
        vision_config=dict(small, image_size=32, patch_size=8),
        projection_dim=12)).save_pretrained(tmp_path / 'clip')
    save_tokenizer(tmp_path / 'clip')
    tokenizer = json.loads((tmp_path / 'clip/tokenizer_config.json').read_text())
    (tmp_path / 'clip/tokenizer_config.json').write_text(
        json.dumps(dict(tokenizer, pad_token=tokenizer['eos_token'])))
    (tmp_path / 'images').mkdir()
    Image.new('RGB', (60, 30), 'red').save(tmp_path / 'images/wide.jpg')
    (tmp_path / 'names.txt').write_text('circle\nred circle, star\n')
    assert run_tool('projects/open_vocabulary/extract_clip.py', '--model', tmp_path / 'clip',
                    '--images', tmp_path / 'images', '--names', tmp_path / 'names.txt',
                    '--out', tmp_path / 'out') == 0
    found = module('features').FeatureFolder(tmp_path / 'out')
    assert found.image('wide.jpg').shape == (12, 2, 4)
    np.testing.assert_allclose(
        np.linalg.norm(found.text(['circle', 'red circle, star']), axis=1), 1, atol=1e-2)


def test_the_synthetic_test_renames_classes_and_has_features_for_all(tmp_path):
    make_world(tmp_path / 'world', WorldParameters(seed=5, train=6, val=2))
    assert run_tool('projects/open_vocabulary/synthetic_features.py', '--world',
                    tmp_path / 'world', '--encoder', '', '--train-images', 6,
                    '--out', tmp_path / 'out') == 0
    content = json.loads((tmp_path / 'out/panoptic_val.json').read_text())
    names = {category['name'] for category in content['categories']}
    assert {'sparkle', 'valentine', 'lake'} <= names and not {'star', 'heart', 'water'} & names
    found = module('features').FeatureFolder(tmp_path / 'out')
    seen = [name for name in names if name in found._text]
    assert len(seen) > 5
    for image in content['images']:
        assert found.image(image['file_name']).shape[0] == found.text(seen[:1]).shape[1]


@pytest.mark.parametrize('name', ['tiny', 'ade20k'])
def test_a_config_passes_the_check_and_tests_both_apart(name, tmp_path):
    cfg = load_config(PROJECT / f'configs/{name}.py', {
        'model.tokenizer.path': str(tmp_path), 'model.llm.pretrained': None, 'load_from': None})
    cfg.model.encoder.backbone.pop('pretrained_path', None)    # written by a command
    check_config(cfg, modes=())
    tasks = {key: loader.dataset.tasks[0].type for key, loader in cfg.test_dataloader.items()}
    assert sorted(tasks.values()) == ['EnsemblePanopticTask', 'PanopticTask']
