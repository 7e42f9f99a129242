# Copyright (c) mvp_mm authors. All rights reserved.
"""The limit of written responses is compared with the captions that training teaches."""
from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from mvp_mm.engine import ResponseLimitHook
from mvp_mm.tasks import CaptionTask, DetectionTask


class Words:
    """One token per word."""

    @staticmethod
    def encode(text):
        return text.split()


class Captioned:
    """A dataset of captions of given lengths."""

    ann_file = 'captions.json'

    def __init__(self, lengths, task=None):
        self.lengths = lengths
        self.tasks = [task or DetectionTask()]

    def __len__(self):
        return len(self.lengths)

    def get_data_info(self, row):
        captions = ['word ' * self.lengths[row]]
        return dict(annotation=SimpleNamespace(captions=captions))


def lines(dataset, limit, **settings):
    told = []
    logger = SimpleNamespace(info=lambda text: told.append((logging.INFO, text)),
                             warning=lambda text: told.append((logging.WARNING, text)))
    model = SimpleNamespace(tokenizer=Words, ending=[1, 2, 3], max_response_tokens=limit)
    ResponseLimitHook(**settings).before_train(SimpleNamespace(
        model=model, logger=logger, train_dataloader=SimpleNamespace(dataset=dataset)))
    return told


def test_captions_that_fit_are_told():
    (level, text), = lines(Captioned([10] * 99 + [20]), 23)
    assert level == logging.INFO
    assert text == ('captions.json: responses have 13 tokens in the median, 14 at 99 %, at most 23 '
                    '(100 captions); model.max_response_tokens=23')


def test_captions_that_are_cut_are_warned_about_with_the_limit_to_set():
    (level, text), = lines(Captioned([10] * 90 + [40] * 10), 32)
    assert level == logging.WARNING
    assert '10.0% are longer than model.max_response_tokens=32' in text
    assert 'set it to 43 or more' in text


@pytest.mark.parametrize('task', [CaptionTask(), DetectionTask(response='none'),
                                  DetectionTask(response='existing')])
def test_responses_without_captions_are_not_looked_at(task):
    assert lines(Captioned([100], task), 10) == []


def test_every_member_of_a_mix_is_looked_at():
    mix = SimpleNamespace(datasets=[Captioned([5]), SimpleNamespace(members=[Captioned([50])])])
    assert [level for level, _ in lines(mix, 20)] == [logging.INFO, logging.WARNING]


def test_few_images_are_read_of_a_large_dataset():
    (_, text), = lines(Captioned(list(range(10_000))), 10_010, images=11)
    assert '(11 captions)' in text and 'at most 10002' in text


@pytest.mark.parametrize('settings', [dict(images=0), dict(share=1.0)])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match='needs images >= 1 and 0 <= share < 1'):
        ResponseLimitHook(**settings)
