# Copyright (c) mvp_mm authors. All rights reserved.
"""Unusual but sound values of annotation files are read as they are; their neighbours are named."""
from __future__ import annotations

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from mvp_mm.datasets.checks import check_dataset
from mvp_mm.registry import DATASETS
from tests.test_datasets.small_data import HEIGHT, WIDTH, instances, make_config, write_json

KINDS = [('CocoInstanceDataset', 'InstanceTask'), ('BoxDetectionDataset', 'DetectionTask')]


def renamed(image=None, category=None, annotation=None):
    """The instances with other ids."""
    content = instances()
    same = lambda value: value  # noqa: E731
    image, category, annotation = image or same, category or same, annotation or same
    for record in content['annotations']:
        record.update(id=annotation(record['id']), image_id=image(record['image_id']),
                      category_id=category(record['category_id']))
    for key, change in (('images', image), ('categories', category)):
        content[key] = [dict(record, id=change(record['id'])) for record in content[key]]
    return content


def truth(cfg):
    sample = DATASETS.build(cfg)[0]['data_samples'][0]
    return sample.instruction.phrases, [
        sample.gt_eval[key].tolist() for key in ('bboxes', 'labels', 'crowd')]


@pytest.mark.parametrize('kind, task', KINDS)
@pytest.mark.parametrize('ids', [
    dict(image=lambda i: i - 1, category={7: 0, 3: 1}.get, annotation=lambda i: i - 10),
    dict(image=lambda i: i * 10**9 + 7, category=lambda i: i * 1000, annotation=lambda i: i * 37),
    dict(image=lambda i: -i, annotation=lambda i: -i), dict(annotation=lambda i: f'a{i}'),
    dict(category=str)])
def test_ids_of_any_numbering_mean_the_same_objects(tmp_path, kind, task, ids):
    cfg = make_config(tmp_path, kind, task)
    usual = truth(cfg)
    write_json(tmp_path / 'ann.json', renamed(**ids))
    assert truth(cfg) == usual


@pytest.mark.parametrize('ids, told', [
    (dict(image=float), r'image number 0 has id 1.0'),
    (dict(image=lambda i: f'{i:06d}'), r'image 000001 has id'),
    (dict(image=lambda i: (1 << 100) + i), r'image number 0 has id'),
    (dict(category=float), r'has (category_)?id 7.0')])
def test_ids_of_another_type_are_named(tmp_path, ids, told):
    cfg = make_config(tmp_path)
    write_json(tmp_path / 'ann.json', renamed(**ids))
    with pytest.raises(ValueError, match=f'ann.json: .*{told}'):
        DATASETS.build(cfg)
    assert 'broken record' in check_dataset(cfg).by_kind


def test_boxes_may_lack_ids_and_flags(tmp_path):
    cfg = make_config(tmp_path, 'BoxDetectionDataset', 'DetectionTask')
    content = instances()
    for record in content['annotations']:
        del record['id'], record['iscrowd']
    write_json(tmp_path / 'ann.json', content)
    assert truth(cfg)[1][2] == [False] * 3


def test_an_absolute_file_name_is_taken_as_it_stands(tmp_path):
    cfg = make_config(tmp_path / 'data')
    elsewhere = tmp_path / 'elsewhere/p1.png'
    elsewhere.parent.mkdir()
    cv2.imwrite(str(elsewhere), np.full((HEIGHT, WIDTH, 3), 77, np.uint8))
    content = instances()
    content['images'][0]['file_name'] = str(elsewhere)
    write_json(tmp_path / 'data/ann.json', content)
    item = DATASETS.build(cfg)[0]
    assert item['data_samples'][0].img_path == str(elsewhere)
    assert (item['inputs'] == 77).any() and check_dataset(cfg).faults == []


@pytest.mark.parametrize('name', [
    'ñandú 雪 é.png', 'cafe\u0301.png', 'my photo (1).png', 'P1.PNG', 'a#b%20c.png', '🪁.png',
    'a.b.c.jpg.png', 'deep/er/p1.png', 'a\nb.png', '../img/p1.png', 'p1', 'sub\\p1.png'])
def test_a_file_s_name_is_taken_as_it_stands(tmp_path, name):
    cfg = make_config(tmp_path)
    content = instances()
    content['images'][0]['file_name'] = name
    write_json(tmp_path / 'ann.json', content)
    path = tmp_path / 'img' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode('.png', np.zeros((HEIGHT, WIDTH, 3), np.uint8))[1].tobytes())
    assert DATASETS.build(cfg)[0]['data_samples'][0].ori_shape == (HEIGHT, WIDTH)
    assert check_dataset(cfg).faults == []


@pytest.mark.parametrize('names', [
    ['road, route', 'boat'], ['hot-dog', 'dog'], ['st. bernard', 'dog.'], ['ñandú', '犬'],
    ['🪁', '⛵'], ['Cat', 'cat'], ['"cat"', "men's hat"], ['bat_(animal)', 'aerosol_can'],
    ['<|endoftext|>', 'cat'], ['<PER>', '<image>'], ['container', 'container number']])
def test_sound_class_names_are_asked_for_as_they_stand(tmp_path, names):
    cfg = make_config(tmp_path)
    content = instances()
    content['categories'] = [dict(id=number, name=name)
                             for number, name in zip((7, 3), names, strict=True)]
    write_json(tmp_path / 'ann.json', content)
    assert truth(cfg)[0] == names
    assert check_dataset(cfg).faults == []


def test_a_class_name_too_long_for_the_context_is_named_when_it_is_asked_for(tmp_path):
    cfg = make_config(tmp_path)
    content = instances()
    content['categories'] = [dict(id=7, name='x' * 3000), dict(id=3, name='dog')]
    write_json(tmp_path / 'ann.json', content)
    with pytest.raises(ValueError, match=r"ann.json, a.jpg \(image 1\): .* takes 3001 tokens"):
        DATASETS.build(cfg)[0]


def test_three_thousand_classes_are_all_asked_in_evaluation_and_some_in_training(tmp_path):
    content = instances()
    content['categories'] += [dict(id=1000 + k, name=f'name {k}') for k in range(3000)]
    phrases = {}
    for training in (True, False):
        cfg = make_config(tmp_path, training=training)
        write_json(tmp_path / 'ann.json', content)
        sample = DATASETS.build(cfg)[0]['data_samples'][0]
        phrases[training] = sample.instruction.phrases
    assert phrases[False] == ['cat', 'dog', *(f'name {k}' for k in range(3000))]
    assert {'cat', 'dog'} < set(phrases[True]) < set(phrases[False])


@pytest.mark.parametrize('text', [
    'the 🪁 left of ⛵', '...', '?', '\u202ekite', 'the <|endoftext|> kite', 'men\'s "hat"',
    'the kite\non the left\n', 'kite\x00left', 'the <PER> and <image>'])
def test_sound_sentences_are_asked_as_they_stand(tmp_path, text):
    cfg = make_config(tmp_path, 'RefCocoDataset', 'ReferringSegmentationTask')
    path = tmp_path / 'refs(unc).p'
    refs = pickle.loads(path.read_bytes())
    refs[0]['sentences'][0]['sent'] = text
    path.write_bytes(pickle.dumps(refs))
    asked = [sample.instruction.phrases[0] for sample in DATASETS.build(cfg)[0]['data_samples']]
    assert text in asked


@pytest.mark.parametrize('sentences', [['the cat', 'the dog'], 'the cat', None, [None]])
def test_sentences_of_another_form_are_named(tmp_path, sentences):
    cfg = make_config(tmp_path, 'RefCocoDataset', 'ReferringSegmentationTask')
    path = tmp_path / 'refs(unc).p'
    refs = pickle.loads(path.read_bytes())
    refs[0]['sentences'] = sentences
    path.write_bytes(pickle.dumps(refs))
    with pytest.raises(ValueError, match=r'refs\(unc\).p: reference 1'):
        DATASETS.build(cfg)
    assert any('reference 1' in fault.where for fault in check_dataset(cfg).faults)


def asked(cfg, change):
    """The phrases of each sample, once the references were changed."""
    path = Path(cfg['data_root']) / 'refs(unc).p'
    refs = pickle.loads(path.read_bytes())
    change(refs)
    path.write_bytes(pickle.dumps(refs))
    return [sample.instruction.phrases for sample in DATASETS.build(cfg)[0]['data_samples']]


def test_a_reference_without_sentences_asks_nothing(tmp_path):
    cfg = make_config(tmp_path, 'RefCocoDataset', 'ReferringSegmentationTask')
    assert asked(cfg, lambda refs: refs[0].update(sentences=[])) == [['the dog']]
    assert 'empty sentence' in check_dataset(cfg).by_kind


def test_sentences_without_ids_are_named(tmp_path):
    cfg = make_config(tmp_path, 'RefCocoDataset', 'ReferringSegmentationTask')
    with pytest.raises(ValueError, match='reference 1, sentence number 1 lacks sent_id'):
        asked(cfg, lambda refs: refs[0]['sentences'][1].pop('sent_id'))


def test_an_empty_sentence_is_never_joined_with_others(tmp_path):
    cfg = make_config(tmp_path, 'RefCocoDataset', 'ReferringSegmentationTask')
    cfg['tasks'][0]['join_sentences'] = True
    with pytest.raises(ValueError, match="reference 1, sentence 101 has sent ''"):
        asked(cfg, lambda refs: refs[0]['sentences'][1].update(sent=''))


@pytest.mark.parametrize('targets, number', [([-1], 0), ([10, 11], 2)])
def test_a_generalized_reference_means_none_or_many(tmp_path, targets, number):
    cfg = make_config(tmp_path, 'GRefCocoDataset', 'GeneralizedReferringTask')
    write_json(tmp_path / 'grefs(unc).json', [
        dict(ref_id=1, ann_id=targets, image_id=1, split='train',
             sentences=[dict(sent='those', sent_id=1)])])
    assert len(DATASETS.build(cfg)[0]['data_samples'][0].gt_instances) == number


@pytest.mark.parametrize('caption', [None, 5, ['two cats']])
def test_a_grounding_line_whose_caption_is_no_text_is_named(tmp_path, caption):
    cfg = make_config(tmp_path, 'OdvgDataset', 'PhraseGroundingTask')
    line = dict(filename='a.jpg', height=HEIGHT, width=WIDTH, grounding=dict(
        caption=caption, regions=[dict(bbox=[3, 3, 20, 18], phrase='a cat')]))
    path = tmp_path / cfg['ann_file']
    path.write_text(json.dumps(line) + '\n')
    with pytest.raises(ValueError, match=f'{path.name}.*caption'):
        DATASETS.build(cfg)
    assert any('caption' in fault.message for fault in check_dataset(cfg).faults)
