# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import json
from random import Random

import numpy as np
import pytest

from mvp_mm.captioning.report import write_refined
from mvp_mm.datasets.captions import CaptionRefiner, hedges
from mvp_mm.datasets.captions.refine import split_sentences
from mvp_mm.datasets.captions.sources import open_source
from mvp_mm.datasets.captions.store import CaptionStore
from mvp_mm.synthetic.captions import caption_store_entry
from mvp_mm.synthetic.scene import sample_scene
from tests.test_datasets.small_data import SAMPLE, needs_sample, write_json


@pytest.mark.parametrize('sentence', [
    'The smile indicates joy.', 'Indicating a storm, clouds gather.', 'It is possibly a dog.',
    'He seems happy.', 'This suggests that it rained.', 'It might rain.', 'It may rain.',
    'He could be waiting.', "He couldn't be older.", 'A man appears to be asleep.',
    'They are likely friends.', 'That is unlikely.', 'Perhaps it is late.', 'MAY BE A CAT',
    'It looks like it is going to rain.', 'May I sit here?', 'The coat implied wealth.',
    'The potential buyers wait.', 'This may provide shade.', 'There is a possibility of rain.',
    'The man, who may have fallen, sits.', 'An implication of speed.', 'It can be inferred.',
])
def test_guesses_are_found(sentence):
    assert hedges(sentence)


@pytest.mark.parametrize('sentence', [
    'A parade in May with many flags.', 'flowers in may', 'May 5, 2015 in the park.',
    'Actress May Whitman smiles.', 'The mighty dismay of a man.', 'He pulls with all his might.',
    'A sign indicating the exit.', 'Street signs that indicate one way.',
    'A man appears in a film.',
    'A cake that looks like a train.', 'Seamless tiles.', 'A suggestion box on a table.',
    'A kitchen filled with may different items.', 'An impassable road.', 'A hint of blue.',
    'May is a warm month.', 'A clock indicating noon.', 'A couldron and a seemly dress.',
])
def test_descriptions_are_not_guesses(sentence):
    assert not hedges(sentence)


@pytest.mark.parametrize('caption, reason', [
    (' \n', 'empty'), ('It might rain.', 'hedging'), ('A dog', 'too short'),
    ('word ' * 12 + 'a b', 'repetitive'), (' '.join(f'w{k}' for k in range(301)), 'too long'),
    ("I'm sorry, I cannot see the picture.", 'refusal'),
    ('there is no image here to provide a caption for', 'refusal'),
    ('a b c \ud83d', 'garbled'),
    (' '.join(chr(0x4e00 + k) for k in range(60)), 'garbled'),
    ('A dog runs on grass.', ''),
])
def test_reasons(caption, reason):
    verdict = CaptionRefiner().judge(caption)
    assert verdict.reason == reason and bool(verdict.text) == (not reason)


def test_removed_sentences_tell_why():
    verdict = CaptionRefiner().judge(
        'A dog runs. It might be happy. A dog runs! The sky is blue and the', cut=True)
    assert verdict.text == 'A dog runs.'
    assert [(r.reason, r.evidence) for r in verdict.removals] == [
        ('hedging', 'might'), ('repeated', ''), ('cut off', '')]


def test_duplicates_of_an_image_are_exact_or_alike():
    verdicts = CaptionRefiner().judge_image(
        ['A red dog.', 'a red dog', 'A red dog. It may sleep.', 'A blue dog.', 'A red dog.'])
    assert [v.reason for v in verdicts] == ['', 'duplicate', 'duplicate', '', 'duplicate']


def test_sentences_end_where_they_end():
    assert split_sentences('Mr. Hill runs. "It rains." he said\n\n- a cat\n- a dog') == [
        'Mr. Hill runs.', '"It rains."', 'he said', '- a cat', '- a dog']


def test_refining_twice_changes_nothing():
    refiner = CaptionRefiner()
    once = refiner('A dog runs.  It may bark. The sky is\n\nblue. The sky is. A cat.')
    assert once and refiner(once) == once


@pytest.mark.parametrize('arguments', [
    dict(min_words=5, max_words=4), dict(min_entropy_ratio=2), dict(max_character_entropy=0)])
def test_bounds_that_cannot_be_are_refused(arguments):
    with pytest.raises(ValueError, match=list(arguments)[0]):
        CaptionRefiner(**arguments)


def test_planted_captions_of_the_synthetic_world():
    truth, found = [], []
    for seed in range(150):
        rng = Random(seed)
        texts, planted = caption_store_entry(sample_scene(rng), rng)
        for index, verdict in enumerate(CaptionRefiner().judge_image(texts)):
            truth.append(str(index) in planted)
            found.append(verdict.reason not in ('', 'duplicate') or bool(verdict.removals))
            if truth[-1] and verdict.kept:
                assert planted[str(index)] == 'hedging'
                assert texts[index].startswith(verdict.text[:-1])
    truth, found = np.array(truth), np.array(found)
    assert truth.sum() > 30
    # Over 12 000 captions, 1 166 of them planted, both are 1.
    assert (truth & found).sum() / found.sum() > 0.99
    assert (truth & found).sum() / truth.sum() > 0.99


@needs_sample
@pytest.mark.parametrize('name, captions', [
    ('coco/annotations/captions_train2017.json', 635), ('cc3m_style/chat.json', 32)])
def test_captions_by_people_stay(tmp_path, name, captions):
    report = write_refined(open_source(SAMPLE / name), CaptionRefiner(), tmp_path / 'out.jsonl')
    assert report.counts['captions'] == captions
    assert set(report.dropped) <= {'duplicate'} and not report.removed


def test_report_and_refined_file(tmp_path):
    source = write_json(tmp_path / 'in.json', dict(captioners=['x', 'y'], captions={
        'a.jpg': ['A cat and a dog.', 'A cat sits. It might sleep.'],
        'b.jpg': ['', 'It may be night.']}))
    write_refined(open_source(source), CaptionRefiner(), tmp_path / 'out.jsonl')
    report = json.loads((tmp_path / 'out.jsonl.report.json').read_text())
    assert report['dropped'] == dict(empty=1, hedging=1)
    assert (report['shortened'], report['images left without']) == (1, 1)
    assert report['hedging_words'] == dict(might=1, may=1)
    example, = report['examples']['dropped: hedging']
    assert (example['image'], example['captioner'], example['detail']) == ('b.jpg', 'y', 'may')
    assert "[may]: 'It may be night.'" in (tmp_path / 'out.jsonl.report.txt').read_text()
    store = CaptionStore(str(tmp_path / 'out.jsonl'))
    assert store.get('a.jpg') == ['A cat and a dog.', 'A cat sits.'] and store.get('b.jpg') == []


def test_several_processes_judge_as_one_does(tmp_path):
    captions = {f'{k}.jpg': [f'A dog sits on bench {k}.', 'A cat. It may sleep.', '']
                for k in range(1700)}
    source = write_json(tmp_path / 'in.json', dict(captions=captions))
    for workers in (1, 2):
        write_refined(open_source(source), CaptionRefiner(), tmp_path / f'{workers}.jsonl',
                      workers=workers)
    for suffix in ('', '.report.json'):
        one, two = ((tmp_path / f'{n}.jsonl{suffix}').read_text() for n in (1, 2))
        assert one == two


def test_a_refined_file_is_not_refined_again(tmp_path):
    source = write_json(tmp_path / 'in.json', dict(captions={'a.jpg': ['It may be night.']}))
    write_refined(open_source(source), CaptionRefiner(hedging=False), tmp_path / 'out.jsonl')
    assert CaptionStore(str(tmp_path / 'out.jsonl')).get('a.jpg') == ['It may be night.']
    assert CaptionStore(str(tmp_path / 'out.jsonl'), CaptionRefiner()).get('a.jpg') == []
