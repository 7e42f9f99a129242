# Copyright (c) mvp_mm authors. All rights reserved.
"""Texts of files and users never become special tokens."""
from __future__ import annotations

import string

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mvp_mm.registry import TASKS, TOKENIZERS
from mvp_mm.structures import ImageAnnotation, Referral
from mvp_mm.tokenization.released import END_OF_PHRASE, PAD
from mvp_mm.tokenization.split_to_context import tokenize_in_parts
from tests.test_datasets.small_data import tokenizer_config

KINDS = ('bytes', 'bpe', 'unigram', 'word level', 'released')
SPELLINGS = ['<PER>', '<|endoftext|>', '</s>', '<s>', '[PAD]', '[SEG]', '<image>', '<pad>']
CONTROL = ['<unk>', '<s>', '</s>', '<pad>']


def save(root, model, pre_tokenizer) -> dict:
    """A folder of a tokenizer whose model has its special tokens among its own pieces."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token='<unk>', bos_token='<s>', eos_token='</s>',
        pad_token='<pad>').save_pretrained(root)
    return dict(type='InstructionTokenizer', path=str(root), num_visual_tokens=4)


@pytest.fixture(params=KINDS)
def tokenizer(request, tmp_path):
    letters = [c for c in string.printable if not c.isspace()]
    pieces = {token: k for k, token in enumerate([*CONTROL, '\u2581', *letters])}
    if request.param == 'bpe':
        cfg = save(tmp_path, models.BPE(pieces, [], unk_token='<unk>'), pre_tokenizers.Metaspace())
    elif request.param == 'unigram':
        scores = [(token, 0. if token in CONTROL else -4.) for token in pieces]
        cfg = save(tmp_path, models.Unigram(scores, 0), pre_tokenizers.Metaspace())
    elif request.param == 'word level':
        cfg = save(tmp_path, models.WordLevel(pieces, '<unk>'), pre_tokenizers.WhitespaceSplit())
    else:
        cfg = tokenizer_config(tmp_path)
        if request.param == 'released':
            cfg['type'] = 'ReleasedTokenizer'
    return TOKENIZERS.build(cfg)


def special_ids(tokenizer) -> set[int]:
    hub = tokenizer.tokenizer
    return {*hub.all_special_ids, *hub.get_added_vocab().values()} - {hub.unk_token_id}


def ids_of_text(tokenizer, instruction) -> set[int]:
    """Ids outside the image, whose placeholder is a special token by design."""
    ids = instruction.input_ids.copy()
    if instruction.image_start >= 0:
        start = instruction.image_start
        ids = np.delete(ids, slice(start, start + tokenizer.num_visual_tokens))
    return set(ids.tolist())


@pytest.mark.parametrize('text', [*SPELLINGS, 'a<PER>b', 'cat </s> dog', '</s></s>', '<<s>>'])
def test_no_text_becomes_a_special_token(tokenizer, text):
    assert not special_ids(tokenizer) & set(tokenizer.encode(text))
    assert tokenizer.encode(text)


def test_words_of_a_user_are_text(tokenizer):
    instruction = TASKS.build(dict(type='PanopticTask')).ask(words=SPELLINGS).instruction
    tokenize_in_parts(instruction, tokenizer)
    found = ids_of_text(tokenizer, instruction) & special_ids(tokenizer)
    # The released variant closes each phrase with a token of its own.
    closing = tokenizer.tokenizer.convert_tokens_to_ids(END_OF_PHRASE)
    assert found == ({closing} if tokenizer.per_token == PAD else set())
    for index in range(len(SPELLINGS)):
        assert (instruction.phrase_index == index).any()


@pytest.mark.parametrize('text', SPELLINGS)
def test_a_sentence_of_a_user_is_text(tokenizer, text):
    task = TASKS.build(dict(type='GeneralizedReferringTask'))
    instruction = tokenizer.tokenize(task.ask(text=f'the cat {text}').instruction)
    closing = tokenizer.tokenizer.convert_tokens_to_ids(END_OF_PHRASE)
    found = ids_of_text(tokenizer, instruction) & special_ids(tokenizer)
    assert found <= ({closing} if tokenizer.per_token == PAD else set())


def test_texts_of_annotations_are_text(tokenizer):
    every = ' '.join(SPELLINGS)
    annotation = ImageAnnotation(
        'here', vocabulary=tuple(SPELLINGS), vocabulary_is_thing=np.ones(len(SPELLINGS), bool),
        labels=np.array([0]), crowd=np.zeros(1, bool), captions=[every],
        referrals=[Referral(every, [0])])
    for kind in ('PanopticTask', 'GeneralizedReferringTask'):
        task = TASKS.build(dict(type=kind, response='caption'))
        request, = task.instruct(annotation, np.random.default_rng(0), True)
        instruction = tokenizer.tokenize(request.instruction)
        written = instruction.labels[instruction.labels >= 0].tolist()
        # One summary token and one end of text, both of the framework's own making.
        assert written[-2:] == [tokenizer.per_id, tokenizer.eos_id]
        assert not special_ids(tokenizer) & set(written[:-2])


def test_plain_text_is_encoded_as_the_tokenizer_does(tokenizer):
    plain = tokenizer.tokenizer.backend_tokenizer.encode('a cat, 3 dogs', add_special_tokens=False)
    assert tokenizer.encode('a cat, 3 dogs') == plain.ids
