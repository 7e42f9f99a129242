# Copyright (c) mvp_mm authors. All rights reserved.
"""Fabricated files have the names, layouts and formats of the published ones."""
from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from mvp_mm.engine import load_datasets
from mvp_mm.rehearsal import sizes
from mvp_mm.rehearsal.checks import full_rows, left_in_file, starts_from
from mvp_mm.rehearsal.place import PHI, make_place
from mvp_mm.rehearsal.scenes import draw_scene, run_lengths
from mvp_mm.rehearsal.small_parts import CONVNEXT, LITE0, QWEN3, SMOLLM2_135M, SMOLLM2_360M, VIT
from mvp_mm.rehearsal.tokenizer import BLANKS, GPT2_TOKENS, QWEN3_ADDED, SMOLLM2_SPECIAL
from mvp_mm.utils.masks import rle_masks, to_rle
from tests.helpers import ROOT


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp('place')
    make_place(place)
    return place


@pytest.mark.parametrize('name', [
    name for name in load_datasets(ROOT / 'configs/_base_/datasets.py')
    if not name.startswith('syn_')])
def test_every_dataset_of_the_configs_has_its_files(place, name):
    cfg = load_datasets(ROOT / 'configs/_base_/datasets.py')[name]
    named = [cfg.get('ann_file'), cfg.get('caption_store'), cfg.get('instances_file'),
             *cfg['data_prefix'].values()]
    made_by_a_command = {'index.jsonl', 'SegmentationClassContext'}
    assert not [file for file in named if file and file not in made_by_a_command
                and not (place / cfg['data_root'] / file).exists()]


def shapes(state):
    return {name: tensor.shape for name, tensor in state.items()}


@pytest.mark.parametrize('folder, vocabulary, left_out', [
    (PHI, 51_200, set()), (QWEN3, 151_936, set()),
    # Tied, and not stored beside the embedding.
    (SMOLLM2_135M, 49_152, {'lm_head.weight'}), (SMOLLM2_360M, 49_152, {'lm_head.weight'})])
def test_an_llm_has_the_names_and_shapes_of_its_family(place, folder, vocabulary, left_out):
    config = AutoConfig.from_pretrained(place / folder)
    with torch.device('meta'):
        model = AutoModelForCausalLM.from_config(config)
    expected = shapes(model.state_dict())
    found = shapes(load_file(place / folder / 'model.safetensors'))
    assert set(expected) - set(found) == left_out
    assert found == {name: expected[name] for name in found}
    assert config.vocab_size == vocabulary


@pytest.mark.parametrize('file, name, sizes_of', [
    (LITE0, 'tf_efficientnet_lite0', {}), (CONVNEXT, 'convnext_tiny', sizes.CONVNEXT),
    (VIT, 'vit_small_patch14_dinov2', dict(sizes.VIT, num_classes=0))])
def test_an_encoder_has_the_names_and_shapes_of_timm(place, file, name, sizes_of):
    with torch.device('meta'):
        model = timm.create_model(name, **sizes_of)
    assert shapes(load_file(place / file)) == shapes(model.state_dict())


def test_smollm2_uses_every_row_and_qwen3_leaves_some(place):
    smollm2, qwen3 = (AutoTokenizer.from_pretrained(place / folder)
                      for folder in (SMOLLM2_360M, QWEN3))
    assert len(smollm2) == 49_152
    assert smollm2.convert_ids_to_tokens([0, 16]) == [SMOLLM2_SPECIAL[0], SMOLLM2_SPECIAL[-1]]
    assert len(qwen3) == 151_669 < 151_936
    assert qwen3.convert_ids_to_tokens([151_643, 151_668]) == [QWEN3_ADDED[0], QWEN3_ADDED[-1]]
    for tokenizer, text in ((smollm2, 'a 12'), (qwen3, "the dogs' 12  beds")):
        ids = tokenizer(text).input_ids
        assert tokenizer.decode(ids) == text
    # Of Qwen3, digits stand alone.
    assert {'1', '2'} <= set(qwen3.tokenize("the dogs' 12  beds"))


def test_the_tokenizer_has_the_files_and_the_size_of_phi(place):
    tokenizer = AutoTokenizer.from_pretrained(place / PHI)
    assert len(tokenizer) == GPT2_TOKENS + len(BLANKS) == 50_295
    assert tokenizer.eos_token_id == GPT2_TOKENS - 1
    assert tokenizer.convert_tokens_to_ids([' ' * 31, '\t\t']) == [50_257, 50_294]
    text = ' Please identify all objects,  two\tspaces'
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert {path.name for path in (place / PHI).iterdir()} >= {
        'vocab.json', 'merges.txt', 'tokenizer.json', 'tokenizer_config.json', 'added_tokens.json'}


def test_objects_lie_apart_and_inside_of_the_image():
    for number in range(40):
        scene = draw_scene(number)
        found = scene.value_map(range(1, 4), 0, 0)
        assert [int((found == k + 1).sum()) for k in range(3)] == [
            w * h for _, _, w, h in scene.things]


def test_run_lengths_are_those_of_the_box():
    scene = draw_scene(3)
    for box in ((0, 0, 5, 4), scene.things[0], (scene.width - 3, scene.height - 2, 3, 2)):
        code = run_lengths(box, scene.height, scene.width)
        x, y, w, h = box
        assert sum(code['counts']) == scene.height * scene.width
        packed = to_rle(code, scene.height, scene.width, 'test')
        mask = rle_masks([packed], scene.height, scene.width)[0]
        assert mask.sum() == w * h and mask[y:y + h, x:x + w].all()


def test_images_of_held_out_references_are_in_coco_training_too(place):
    held_out = {ref['image_id'] for ref in json.loads(
        (place / 'data/refer/grefcoco/grefs(unc).json').read_text()) if ref['split'] == 'val'}
    train = json.loads((place / 'data/coco/annotations/instances_train2017.json').read_text())
    assert held_out <= {image['id'] for image in train['images']}


def test_a_full_size_width_is_not_left_in_the_overlay():
    assert sizes.PHI_WIDTH < 2048 and sizes.WIDTH < 256


TABLE = ('Where the weights come from:\npart  tensors  parameters  state  source\n'
         'llm  3  1,000  trained  checkpoints/phi\n2026 - mmengine - INFO - next\n')


def test_weights_from_elsewhere_than_the_recipe_says_are_found():
    starts_from('checkpoints/phi')(Path(), TABLE)
    with pytest.raises(RuntimeError, match='no weight came from a.pth'):
        starts_from('a.pth')(Path(), TABLE)


def test_parts_at_random_values_that_the_recipe_has_pretrained_are_found():
    warned = TABLE + 'TRAINED FROM RANDOM VALUES: llm, encoder. The recipe\n'
    starts_from('checkpoints/phi', random=('encoder', 'llm'))(Path(), warned)
    with pytest.raises(RuntimeError, match=r"random values: \['encoder', 'llm'\], expected \[\]"):
        starts_from('checkpoints/phi')(Path(), warned)


def test_tensors_that_a_converter_leaves_unasked_are_found():
    left_in_file(('a.b', ))(Path(), 'mapped: 3\nleft in the file: 1\n  a.b: 1\nmissing: 0\n')
    with pytest.raises(RuntimeError, match=r"\['c'\], expected \['a.b'\]"):
        left_in_file(('a.b', ))(Path(), 'left in the file: 2\n  c: 2\n')


def test_an_empty_cell_of_the_tables_is_found():
    row, joined = '| **ours** |  | 1.0 | 2.0 |', '| **ours**, sentences joined |  | 1.0 | 2.0 |'
    full_rows(Path(), '\n'.join([row] * 3 + [joined] * 2))
    with pytest.raises(RuntimeError, match='an empty cell'):
        full_rows(Path(), '\n'.join([row] * 4 + ['| **ours** |  | 1.0 |  |']))
