# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import json

import numpy as np
import pytest

from mvp_mm.registry import TASKS, TOKENIZERS
from mvp_mm.structures import ImageAnnotation, Referral, SegmentKind
from mvp_mm.tokenization import InstructionTokenizer
from tests.helpers import save_tokenizer
from tests.test_datasets.small_data import SAMPLE, needs_sample, tokenizer_config


@pytest.fixture(params=['bytes', pytest.param('gpt2', marks=needs_sample)])
def tokenizer(request, tmp_path):
    cfg = tokenizer_config(tmp_path)
    if request.param == 'gpt2':
        cfg['path'] = str(SAMPLE / 'gpt2_bpe')
    return TOKENIZERS.build(cfg)


def annotation(names: tuple[str, ...]) -> ImageAnnotation:
    return ImageAnnotation(
        'here', vocabulary=names, vocabulary_is_thing=np.ones(len(names), dtype=bool),
        captions=['A cat sits..'], referrals=[Referral('the cat, on the left', [])])


def instruct(task: str, names: tuple[str, ...] = ('cat',), training: bool = True):
    built = TASKS.build(dict(type=task))
    return built.instruct(annotation(names), np.random.default_rng(0), training)[0].instruction


@pytest.mark.parametrize('names', [('cat',), ('cat', 'hot dog', 'naïve café', 'cat house')])
def test_phrase_positions_hold_the_phrase(tokenizer, names):
    instruction = tokenizer.tokenize(instruct('PanopticTask', names))
    for index, phrase in enumerate(instruction.phrases):
        positions = np.flatnonzero(instruction.phrase_index == index)
        assert (np.diff(positions) == 1).all()
        assert tokenizer.decode(instruction.input_ids[positions]) == f' {phrase}'


def test_image_run_labels_and_response(tokenizer):
    instruction = tokenizer.tokenize(instruct('GeneralizedReferringTask'))
    start, length = instruction.image_start, instruction.prompt_length
    assert (instruction.input_ids[start:start + 4] == tokenizer.pad_id).all()
    assert (instruction.phrase_index[start:start + 4] == -1).all()
    assert (instruction.labels[:length] == -100).all()
    assert (instruction.labels[length:] == instruction.input_ids[length:]).all()
    assert instruction.labels[-2:].tolist() == [tokenizer.per_id, tokenizer.eos_id]
    assert tokenizer.decode(instruction.labels[length:]) == (
        ' A cat sits. The perception result is')


def test_evaluation_ends_before_the_response(tokenizer):
    instruction = tokenizer.tokenize(instruct('PanopticTask', training=False))
    assert instruction.response == []
    assert instruction.prompt_length == len(instruction.input_ids)
    assert (instruction.labels == -100).all()


def test_caption_has_no_summary_token(tokenizer):
    instruction = tokenizer.tokenize(instruct('CaptionTask'))
    assert tokenizer.per_id not in instruction.input_ids
    assert [s.kind for s in instruction.response] == [SegmentKind.RESPONSE, SegmentKind.EOS]


def test_a_phrase_never_becomes_a_special_token(tokenizer):
    request = TASKS.build(dict(type='PanopticTask')).ask(words=['<PER>', '<|endoftext|>'])
    instruction = tokenizer.tokenize(request.instruction)
    assert tokenizer.per_id not in instruction.input_ids
    assert tokenizer.decode(instruction.input_ids[instruction.phrase_index == 0]) == ' <PER>'


def test_too_long_names_task_and_lengths(tmp_path):
    tokenizer = TOKENIZERS.build(tokenizer_config(tmp_path, max_length=50))
    with pytest.raises(ValueError, match=r'panoptic: \d+ tokens .* exceed max_length=50'):
        tokenizer.tokenize(instruct('PanopticTask'))


def test_missing_folder_is_one_clear_error(tmp_path):
    tokenizer = TOKENIZERS.build(
        dict(type='InstructionTokenizer', path=str(tmp_path / 'no'), num_visual_tokens=1))
    with pytest.raises(FileNotFoundError, match='no does not exist'):
        tokenizer.encode('cat')


def test_a_relative_folder_is_that_of_the_working_directory_of_its_making(tmp_path, monkeypatch):
    """Two folders of one relative name, with different vocabularies."""
    ids = []
    for name in ('one', 'two'):
        folder = tmp_path / name / 'tokenizer'
        save_tokenizer(folder)
        if name == 'two':
            content = json.loads((folder / 'tokenizer.json').read_text())
            content['model']['merges'] = content['model']['merges'][:5]
            (folder / 'tokenizer.json').write_text(json.dumps(content))
        monkeypatch.chdir(tmp_path / name)
        made = InstructionTokenizer(path='tokenizer', num_visual_tokens=4)
        monkeypatch.chdir(tmp_path)
        ids.append(made.encode(' The perception result is'))
    assert len(ids[0]) < len(ids[1])
