# Copyright (c) mvp_mm authors. All rights reserved.
"""The synthetic world: layouts, truth of the expressions, determinism."""

import importlib.util
import json
import pickle
from pathlib import Path
from random import Random

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from mvp_mm.synthetic import (
    COLOURS,
    STUFF_CLASSES,
    THING_CLASSES,
    Expression,
    Noun,
    Scene,
    SceneView,
    Thing,
    WorldParameters,
    make_world,
    sample_groups,
    sample_references,
    sample_scene,
)
from mvp_mm.synthetic.scene import thing_mask

SPLITS = ('train', 'val')
PARAMETERS = WorldParameters(seed=7, train=40, val=24)


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Folder of a small world."""
    out = tmp_path_factory.mktemp('world') / 'synthetic'
    make_world(out, PARAMETERS)
    return out


@pytest.fixture(scope='module')
def scenes():
    """Scenes with their sentences: ``(scene, [sentence])``."""
    result = []
    for index in range(60):
        rng = Random(index)
        scene = sample_scene(rng)
        sentences = [s for _, group in sample_references(scene, rng) for s in group]
        result.append((scene, sentences + sample_groups(scene, rng)))
    return result


def read(path):
    return json.loads(path.read_text())


def references(world):
    return pickle.loads((world / 'refer' / 'refcoco' / 'refs(unc).p').read_bytes())


def groups(world):
    return read(world / 'refer' / 'grefcoco' / 'grefs(unc).json')


def panoptic_ids(world, split, annotation):
    path = world / 'annotations' / f'panoptic_{split}' / annotation['file_name']
    b, g, r = np.moveaxis(cv2.imread(str(path)).astype(np.int64), -1, 0)
    return r + 256 * g + 256 ** 2 * b


def scene_of(*things):
    """Scene with the given things on grass (upper half) and sand."""
    ground = np.zeros((128, 128), np.uint8)
    ground[64:] = STUFF_CLASSES.index('sand')
    instance_map = np.full((128, 128), -1, np.int8)
    for k, thing in enumerate(things):
        instance_map[thing_mask(thing, 128, 128)] = k
    return Scene(things, ground, instance_map)


def small(shape, colour, x, y):
    return Thing(shape, colour, 'small', 'plain', 20, 0, (x, y))


@pytest.mark.parametrize('split', SPLITS)
def test_images_have_the_size_their_entry_says(world, split):
    images = read(world / 'annotations' / f'panoptic_{split}.json')['images']
    assert len(images) == getattr(PARAMETERS, split)
    for image in images:
        shape = cv2.imread(str(world / 'images' / split / image['file_name'])).shape
        assert shape == (image['height'], image['width'], 3)
        assert max(shape) == 128 and min(shape[:2]) in (112, 128)


@pytest.mark.parametrize('split', SPLITS)
def test_panoptic_png_agrees_with_its_json(world, split):
    data = read(world / 'annotations' / f'panoptic_{split}.json')
    stuff = {c['id'] for c in data['categories'] if not c['isthing']}
    for annotation in data['annotations']:
        ids = panoptic_ids(world, split, annotation)
        segments = annotation['segments_info']
        assert set(np.unique(ids)) == {s['id'] for s in segments}
        kinds = [s['category_id'] for s in segments if s['category_id'] in stuff]
        assert kinds and len(kinds) == len(set(kinds))
        for segment in segments:
            ys, xs = np.nonzero(ids == segment['id'])
            assert segment['area'] == len(ys)
            assert segment['bbox'] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]


def test_category_ids_have_gaps(world):
    categories = read(world / 'annotations' / 'panoptic_train.json')['categories']
    ids = sorted(c['id'] for c in categories)
    assert [c['name'] for c in categories] == [*THING_CLASSES, *STUFF_CLASSES]
    assert ids != list(range(ids[0], ids[0] + len(ids)))


@pytest.mark.parametrize('split', SPLITS)
def test_instance_masks_decode_to_the_panoptic_masks(world, split):
    coco = COCO(str(world / 'annotations' / f'instances_{split}.json'))
    data = read(world / 'annotations' / f'panoptic_{split}.json')
    things = {c['id'] for c in data['categories'] if c['isthing']}
    polygons = 0
    for annotation in data['annotations']:
        ids = panoptic_ids(world, split, annotation)
        segments = [s for s in annotation['segments_info'] if s['category_id'] in things]
        instances = coco.imgToAnns[annotation['image_id']]
        assert len(segments) == len(instances) >= 2
        for segment, instance in zip(segments, instances, strict=True):
            expected, mask = ids == segment['id'], coco.annToMask(instance).astype(bool)
            assert (mask & expected).sum() >= 0.98 * (mask | expected).sum()
            assert instance['category_id'] == segment['category_id']
            assert (instance['bbox'], instance['area']) == (segment['bbox'], segment['area'])
            assert instance['area'] >= 80
            polygons += isinstance(instance['segmentation'], list)
    assert polygons > 0.8 * len(coco.anns)


def test_objects365_layout_is_boxes_only(world):
    boxes = read(world / 'annotations' / 'objects365_val.json')['annotations']
    instances = read(world / 'annotations' / 'instances_val.json')['annotations']
    assert [b['bbox'] for b in boxes] == [a['bbox'] for a in instances]
    assert all('segmentation' not in b for b in boxes)


def test_grounding_phrases_name_the_class_of_every_box(world):
    data = read(world / 'annotations' / 'grounding_val.json')
    names = {c['id']: c['name'] for c in read(
        world / 'annotations' / 'instances_val.json')['categories']}
    classes = {a['id']: names[a['category_id']] for a in read(
        world / 'annotations' / 'instances_val.json')['annotations']}
    captions = {image['id']: image['caption'] for image in data['images']}
    assert len(data['annotations']) == len(classes)
    for annotation in data['annotations']:
        (start, end), = annotation['tokens_positive']
        assert classes[annotation['id']] in captions[annotation['image_id']][start:end]


def test_refer_references_name_annotations_of_their_image(world):
    data = read(world / 'refer' / 'refcoco' / 'instances.json')
    annotations = {a['id']: a for a in data['annotations']}
    images = {image['id']: image['file_name'] for image in data['images']}
    sentence_ids = []
    for ref in references(world):
        annotation = annotations[ref['ann_id']]
        assert annotation['image_id'] == ref['image_id']
        assert annotation['category_id'] == ref['category_id']
        assert (world / 'images' / images[ref['image_id']]).is_file()
        assert images[ref['image_id']].startswith(ref['split'])
        assert [s['sent_id'] for s in ref['sentences']] == ref['sent_ids']
        assert all(s['tokens'] == s['sent'].split() and len(s['tokens']) <= 15
                   for s in ref['sentences'])
        sentence_ids += ref['sent_ids']
    assert len(sentence_ids) == len(set(sentence_ids))


def test_grefcoco_flags_and_lists_agree(world):
    annotations = {a['id']: a for a in read(
        world / 'refer' / 'grefcoco' / 'instances.json')['annotations']}
    for ref in groups(world):
        assert ref['no_target'] == (ref['ann_id'] == [-1]) == (ref['category_id'] == [-1])
        if not ref['no_target']:
            assert ref['category_id'] == [annotations[k]['category_id'] for k in ref['ann_id']]
            assert {annotations[k]['image_id'] for k in ref['ann_id']} == {ref['image_id']}


def test_grefcoco_mixes_no_one_and_many_targets(world):
    counts = np.bincount([0 if r['no_target'] else min(len(r['ann_id']), 2)
                          for r in groups(world)])
    none, one, many = counts / counts.sum()
    assert 0.2 < none < 0.4 and 0.15 < one < 0.45 and 0.3 < many < 0.5


@pytest.mark.parametrize('split', SPLITS)
def test_a_third_of_the_expressions_are_ordinal_or_relation(world, split):
    kinds = [s['kind'] for ref in references(world) + groups(world) if ref['split'] == split
             for s in ref['sentences']]
    assert np.mean([kind in ('ordinal', 'relation') for kind in kinds]) >= 0.35


def test_chat_captions_name_colour_and_shape_of_everything(world):
    names = {image['id']: image['file_name'] for image in read(
        world / 'annotations' / 'instances_val.json')['images']}
    chats = {Path(c['image']).name: c for c in read(world / 'annotations' / 'captions_val.json')}
    shapes = {c['id']: c['name'] for c in read(
        world / 'annotations' / 'instances_val.json')['categories']}
    for annotation in read(world / 'annotations' / 'instances_val.json')['annotations']:
        chat = chats[names[annotation['image_id']]]
        human, answer = chat['conversations']
        assert (world / chat['image']).is_file()
        assert human['value'].startswith('<image>\n')
        assert shapes[annotation['category_id']] in answer['value']
        assert any(colour in answer['value'] for colour in COLOURS)


def test_planted_captions_are_the_bad_ones(world):
    store = read(world / 'captions' / 'train.json')
    planted = read(world / 'captions' / 'train_planted.json')
    assert len(store['captions']) == PARAMETERS.train and len(store['captioners']) == 4
    for name, captions in store['captions'].items():
        assert len(captions) == 4
        for index, caption in enumerate(captions):
            fault = planted.get(name, {}).get(str(index))
            words = caption.split()
            assert (not words) == (fault == 'empty')
            assert (len(words) > 2 and len(set(words)) == 1) == (fault == 'repetitive')
            if fault is None:
                assert len(words) <= 40 and 'might' not in words and 'seems' not in words


def test_counts_in_captions_are_true(world):
    planted = read(world / 'captions' / 'val_planted.json')
    data = read(world / 'annotations' / 'instances_val.json')
    shapes = {c['id']: c['name'] for c in data['categories']}
    numbers = ['no', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten']
    captions = read(world / 'captions' / 'val.json')['captions']
    for image in data['images']:
        if '1' in planted.get(image['file_name'], {}):
            continue
        words = captions[image['file_name']][1].replace(',', '').split()
        present = [shapes[a['category_id']] for a in data['annotations']
                   if a['image_id'] == image['id']]
        for shape in set(present):
            at = next(i for i, word in enumerate(words) if word.startswith(shape))
            assert numbers.index(words[at - 1]) == present.count(shape)


def test_splits_are_disjoint(world):
    ids, pictures = [], []
    for split in SPLITS:
        images = read(world / 'annotations' / f'instances_{split}.json')['images']
        ids += [image['id'] for image in images]
        pictures += [(world / 'images' / split / image['file_name']).read_bytes()
                     for image in images]
    assert len(ids) == len(set(ids)) == len(set(pictures)) == PARAMETERS.train + PARAMETERS.val


def test_two_workers_make_the_same_files_as_one(world, tmp_path):
    make_world(tmp_path / 'again', PARAMETERS, workers=2)
    files = sorted(p.relative_to(world) for p in world.rglob('*') if p.is_file())
    assert files == sorted(p.relative_to(tmp_path / 'again')
                           for p in (tmp_path / 'again').rglob('*') if p.is_file())
    for name in files:
        assert (world / name).read_bytes() == (tmp_path / 'again' / name).read_bytes(), name


def test_an_image_does_not_depend_on_the_number_of_images(world, tmp_path):
    make_world(tmp_path / 'short', WorldParameters(seed=7, train=1, val=1))
    for split in SPLITS:
        path, = (tmp_path / 'short' / 'images' / split).iterdir()
        assert path.read_bytes() == (world / 'images' / split / path.name).read_bytes()


def test_second_run_leaves_the_world_alone_and_others_are_refused(world):
    before = (world / 'images' / 'train').stat().st_mtime_ns
    assert make_world(world, PARAMETERS)['complete']
    assert (world / 'images' / 'train').stat().st_mtime_ns == before
    with pytest.raises(FileExistsError, match='world.json describes another world'):
        make_world(world, WorldParameters(seed=8, train=40, val=24))


@pytest.mark.parametrize('overwrite', [False, True])
def test_a_foreign_folder_is_never_replaced(tmp_path, overwrite):
    (tmp_path / 'images').mkdir()
    with pytest.raises(FileExistsError, match='not a synthetic world'):
        make_world(tmp_path, WorldParameters(train=1, val=1), overwrite=overwrite)
    assert (tmp_path / 'images').is_dir()


def test_bad_parameters_are_refused():
    with pytest.raises(ValueError, match='train=0'):
        WorldParameters(train=0)


def test_things_stay_visible(scenes):
    for scene, _ in scenes:
        for thing, mask in zip(scene.things, scene.masks, strict=True):
            whole = thing_mask(thing, scene.height, scene.width)
            assert mask.sum() >= max(80, 0.5 * whole.sum())


def satisfying(scene, part):
    """Plain-loop meaning of an expression, by visible masks, without margins."""
    centre = []
    for mask in scene.masks:
        ys, xs = np.nonzero(mask)
        centre.append(((xs.min() + xs.max() + 1) / 2, (ys.min() + ys.max() + 1) / 2))

    def named(noun):
        return [k for k, thing in enumerate(scene.things) if all(
            getattr(noun, name) in (None, getattr(thing, name))
            for name in ('shape', 'colour', 'size', 'texture'))]

    key = {'left': lambda k: centre[k][0], 'right': lambda k: -centre[k][0],
           'top': lambda k: centre[k][1], 'bottom': lambda k: -centre[k][1],
           'largest': lambda k: -scene.things[k].extent,
           'smallest': lambda k: scene.things[k].extent}
    names = named(part.noun)
    if part.kind == 'attribute':
        return set(names)
    if part.kind == 'extreme':
        return set(sorted(names, key=key[part.word])[:part.rank])
    if part.kind == 'ordinal':
        return set(sorted(names, key=key[part.word])[part.rank - 1:part.rank])
    if part.kind == 'on_stuff':
        kinds = [STUFF_CLASSES[scene.ground[int(centre[k][1]), int(centre[k][0])]] for k in names]
        return {k for k, kind in zip(names, kinds, strict=True) if kind == part.word}
    anchors = named(part.anchor)
    if not anchors or part.word == 'next to':
        return None
    side = {'left of': 'left', 'right of': 'right', 'above': 'top', 'below': 'bottom'}[part.word]
    return {k for k in names if k != anchors[0] and key[side](k) < key[side](anchors[0])}


def test_every_sentence_means_its_targets_by_plain_loops(scenes):
    checked = 0
    for scene, sentences in scenes:
        for sentence in sentences:
            meanings = [satisfying(scene, part) for part in sentence.parts]
            if None not in meanings:
                assert set().union(*meanings) == set(sentence.targets), sentence
                checked += 1
    assert checked > 300


def test_relations_start_from_a_unique_anchor(scenes):
    for scene, sentences in scenes:
        view = SceneView(scene)
        for sentence in sentences:
            for part in sentence.parts:
                assert part.anchor is None or len(view.named(part.anchor)) <= 1


def test_close_calls_are_not_clear():
    scene = scene_of(small('circle', 'red', 40, 30), small('circle', 'blue', 44, 90))
    view = SceneView(scene)
    leftmost = view.read(Expression('extreme', Noun('circle'), 'left'))
    topmost = view.read(Expression('extreme', Noun('circle'), 'top'))
    assert leftmost.possible == {0, 1} and not leftmost.clear
    assert topmost.clear and topmost.sure == {0}


def test_relation_with_two_possible_anchors_is_not_clear():
    scene = scene_of(small('star', 'red', 20, 30), small('circle', 'red', 60, 30),
                     small('circle', 'blue', 100, 30))
    view = SceneView(scene)
    vague = Expression('relation', Noun('star'), 'left of', anchor=Noun('circle'))
    exact = Expression('relation', Noun('star'), 'left of', anchor=Noun('circle', 'blue'))
    assert not view.read(vague).clear
    assert view.read(exact).clear and view.read(exact).sure == {0}


def test_on_stuff_needs_most_of_the_thing_there():
    scene = scene_of(small('star', 'red', 20, 30), small('heart', 'blue', 60, 66))
    view = SceneView(scene)
    assert view.read(Expression('on_stuff', Noun('star'), 'grass')).sure == {0}
    assert not view.read(Expression('on_stuff', Noun('heart'), 'sand')).clear


def test_unknown_word_in_a_noun_is_refused():
    with pytest.raises(ValueError, match='pentagon'):
        Noun(shape='pentagon')


def load_tool(name):
    path = Path(__file__).parents[2] / 'tools' / 'data' / f'{name}.py'
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tokenizer_keeps_names_whole_and_loads_from_its_folder(world, tmp_path):
    transformers = pytest.importorskip('transformers')
    tool = load_tool('train_tokenizer')
    text = 'Please identify the target.'
    tool.train_tokenizer(tool.training_text(world), 512).save_pretrained(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.eos_token == '<|endoftext|>' and len(tokenizer) == 512
    for name in (*THING_CLASSES, *STUFF_CLASSES, *COLOURS):
        assert len(tokenizer(f' {name}').input_ids) == 1
    assert tokenizer.decode(tokenizer(text + ' é\n').input_ids) == text + ' é\n'


def test_tokenizer_says_when_the_vocabulary_is_too_small():
    tool = load_tool('train_tokenizer')
    with pytest.raises(ValueError, match='vocab_size=100'):
        tool.train_tokenizer(iter(['red']), 100)
    with pytest.raises(ValueError, match='in pieces'):
        tool.train_tokenizer(iter(['a red circle']), 260)
