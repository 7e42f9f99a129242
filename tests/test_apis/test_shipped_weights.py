# Copyright (c) mvp_mm authors. All rights reserved.
"""The weights that come with the repository."""
from __future__ import annotations

import json
from random import Random

import numpy as np
import pytest

from mvp_mm.analysis.results import file_hash
from mvp_mm.apis import PerceptionInferencer
from mvp_mm.engine import load_config
from mvp_mm.synthetic import THING_CLASSES, render_scene, sample_scene
from mvp_mm.utils.named_weights import find_weights
from tests.helpers import ROOT

FOLDER = ROOT / 'mvp_mm/weights/tiny'
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason='this checkout ships no weights')


def origin():
    return json.loads((FOLDER / 'origin.json').read_text())


def test_the_folder_is_small_and_says_what_made_it():
    size = sum(path.stat().st_size for path in FOLDER.rglob('*') if path.is_file())
    assert size < 12e6
    assert origin()['command'] and origin()['commit'] and origin()['seed'] is not None
    assert origin()['sha256'] == file_hash(FOLDER / 'model.safetensors')


def test_they_have_a_name_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_weights('tiny').samefile(FOLDER)


def test_the_results_are_those_of_these_weights():
    found = json.loads((ROOT / 'results/tiny_model.json').read_text())
    assert found['weights']['sha256'] == file_hash(FOLDER / 'model.safetensors')


def test_the_card_names_the_weights_that_training_started_from():
    assert 'Training started from: efficientnet_lite0' in (FOLDER / 'README.md').read_text()


def test_users_and_tests_get_the_calibrated_presence_threshold():
    asked = json.loads((FOLDER / 'config.json').read_text())['inferencer']['tasks']
    cfg = load_config(ROOT / 'configs/mvplm/tiny/pretrained.py')
    tested, = cfg.test_dataloader.grefcoco.dataset.tasks
    assert asked['generalized_referring'] == cfg.inferencer.tasks.generalized_referring == tested
    measured = json.loads((ROOT / 'results/tiny_presence.json').read_text())
    assert measured['weights']['sha256'] == file_hash(FOLDER / 'model.safetensors')
    assert tested.presence_thr == round(measured['figures']['balanced']['threshold'], 2)


def test_it_names_the_shapes_of_scenes_that_no_world_holds():
    model = PerceptionInferencer(None, FOLDER, device='cpu')
    right = there = 0
    for seed in range(3):
        scene = sample_scene(Random(f'shipped/{seed}'))
        image = render_scene(scene, np.random.default_rng(seed))[..., ::-1].copy()
        answer, = model(image, 'detection', words=list(THING_CLASSES), thinking=False)
        found = {instance['label'] for instance in answer['instances']}
        shapes = {thing.shape for thing in scene.things}
        right += len(found & shapes)
        there += len(found | shapes)
    assert right >= 0.8 * there
