# Copyright (c) mvp_mm authors. All rights reserved.
"""Answers with responses that the model did not write."""
from __future__ import annotations

import pytest
import torch

from mvp_mm.analysis.given_responses import answer_given
from tests.helpers import build_model, make_batch, make_samples, save_tokenizer


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
    return save_tokenizer(tmp_path_factory.mktemp('tokenizer'))


@pytest.fixture(scope='module')
def model(tokenizer):
    return build_model(tokenizer, max_response_tokens=40).eval()


def asked(tokenizer):
    return make_batch([[*make_samples('PanopticTask', tokenizer, training=False),
                        *make_samples('ReferringSegmentationTask', tokenizer, training=False)]])


def scores_of(samples):
    return torch.cat([sample.pred_instances.scores for sample in samples])


def test_an_empty_caption_is_the_answer_without_thinking(model, tokenizer):
    batch = asked(tokenizer)
    count = sum(map(len, batch['data_samples']))
    given = answer_given(model, batch, [''] * count)
    data = model.data_preprocessor(asked(tokenizer), False)
    direct = model.predict(**data, thinking=False)
    torch.testing.assert_close(scores_of(given), scores_of(direct))
    assert [sample.pred_caption for sample in given] == [''] * count


def test_a_caption_reaches_the_answer_of_its_sample_alone(model, tokenizer):
    batch = asked(tokenizer)
    count = sum(map(len, batch['data_samples']))
    plain = answer_given(model, batch, [''] * count)
    first = answer_given(model, batch, ['the red circle', *[''] * (count - 1)])
    assert not torch.equal(scores_of(first[:1]), scores_of(plain[:1]))
    torch.testing.assert_close(scores_of(first[1:]), scores_of(plain[1:]))
    assert all(not sample.instruction.response for sample in batch['data_samples'][0])


@pytest.mark.parametrize('change, message', [(-1, 'for more samples'), (1, 'for fewer samples')])
def test_every_sample_needs_one_caption(model, tokenizer, change, message):
    batch = asked(tokenizer)
    with pytest.raises(ValueError, match=message):
        answer_given(model, batch, [''] * (len(batch['data_samples'][0]) + change))
