# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import pytest
import torch

from mvp_mm.models.state import InstructionBatch, QueriesPerImage
from mvp_mm.registry import TOKENIZERS
from tests.helpers import make_samples

INDEX = [1, 0, 1, 3, 1]


def test_pack_lays_rows_beside_their_images():
    rows = torch.randn(5, 2, 3)
    by_image = QueriesPerImage(torch.tensor(INDEX), 4)
    expected = torch.zeros(4, 6, 3)
    seen = [0] * 4
    for row, image in zip(rows, INDEX, strict=True):
        start = 2 * seen[image]
        expected[image, start:start + 2] = row
        seen[image] += 1
    torch.testing.assert_close(by_image.pack(rows), expected, rtol=0, atol=0)


@pytest.mark.parametrize('index', [INDEX, [0, 1], [2], [0, 0, 0]])
def test_unpack_inverts_pack(index):
    rows = torch.randn(len(index), 3, 4, 2)
    by_image = QueriesPerImage(torch.tensor(index), 4)
    torch.testing.assert_close(by_image.unpack(by_image.pack(rows)), rows, rtol=0, atol=0)


def test_a_product_with_the_image_needs_no_copies_of_it():
    rows, features = torch.randn(5, 2, 3), torch.randn(4, 3, 7)
    by_image = QueriesPerImage(torch.tensor(INDEX), 4)
    found = by_image.unpack(by_image.pack(rows) @ features)
    expected = torch.stack([row @ features[i] for row, i in zip(rows, INDEX, strict=True)])
    torch.testing.assert_close(found, expected)


def test_gradients_go_through_pack_and_unpack():
    rows = torch.randn(5, 2, requires_grad=True)
    weight = torch.randn(5, 2)
    by_image = QueriesPerImage(torch.tensor(INDEX), 4)
    (by_image.unpack(by_image.pack(rows)) * weight).sum().backward()
    torch.testing.assert_close(rows.grad, weight)


def test_rows_of_no_image_pack_to_zeros():
    by_image = QueriesPerImage(torch.zeros(0, dtype=torch.long), 2)
    assert by_image.pack(torch.zeros(0, 3, 4)).shape == (2, 3, 4)


@pytest.fixture
def samples(tokenizer_path):
    found = [*make_samples('PanopticTask', tokenizer_path),
             *make_samples('ReferringSegmentationTask', tokenizer_path)[:1],
             *make_samples('CaptionTask', tokenizer_path)]
    for index, sample in enumerate(found):
        sample.set_metainfo(dict(image_index=2 - index))
    return found


@pytest.fixture
def per_id(tokenizer_path):
    return TOKENIZERS.build(dict(
        type='InstructionTokenizer', path=tokenizer_path, num_visual_tokens=4)).per_id


@pytest.mark.parametrize('with_response', [True, False])
def test_collate_keeps_every_token_and_pads_the_rest(samples, per_id, with_response):
    batch = InstructionBatch.collate(
        samples, torch.device('cpu'), per_id if with_response else None)
    lengths = [len(s.instruction.input_ids) if with_response else s.instruction.prompt_length
               for s in samples]
    assert len(set(lengths)) == 3 and batch.ids.shape == (3, max(lengths))
    for r, (sample, n) in enumerate(zip(samples, lengths, strict=True)):
        instruction = sample.instruction
        assert batch.ids[r, :n].tolist() == instruction.input_ids[:n].tolist()
        assert batch.phrase_index[r, :n].tolist() == instruction.phrase_index[:n].tolist()
        assert batch.labels[r, :n].tolist() == instruction.labels[:n].tolist()
        assert batch.mask[r, :n].all() and not batch.mask[r, n:].any()
        assert (batch.phrase_index[r, n:] == -1).all()
        assert (batch.labels[r, n:] == -100).all()


def test_collate_reads_each_instruction_s_attributes(samples, per_id):
    batch = InstructionBatch.collate(samples, torch.device('cpu'), per_id)
    assert batch.phrase_mask.sum(1).tolist() == [4, 1, 0]
    assert batch.is_thing[0].tolist() == samples[0].instruction.is_thing.tolist()
    assert batch.is_thing[1:].tolist() == [[True, False, False, False], [False] * 4]
    assert batch.image_index.tolist() == [2, 1, 0]
    assert batch.image_start.tolist() == [s.instruction.image_start for s in samples]
    assert batch.is_word.tolist() == [True, False, False]
    assert batch.use_stuff.tolist() == [True, False, False]
    assert batch.needs_decoder.tolist() == [True, True, False]
    assert [batch.ids[r, at] == per_id for r, at in enumerate(batch.per_position)] == [
        True, True, False]


def test_a_response_without_the_model_s_summary_token_is_refused(samples, per_id):
    samples[1].set_metainfo(dict(img_path='images/7.jpg'))
    with pytest.raises(ValueError, match=r'referring_segmentation, image images/7.jpg: .* no <PER>'
                       r', which is id \d+ for the model. The tokenizer of the data pipeline'):
        InstructionBatch.collate(samples[1:], torch.device('cpu'), per_id + 1)
    InstructionBatch.collate(samples[2:], torch.device('cpu'), per_id + 1)


def test_a_test_sample_has_no_response_to_read(tokenizer_path, per_id):
    sample, = make_samples('PanopticTask', tokenizer_path, training=False)
    sample.set_metainfo(dict(image_index=0))
    with pytest.raises(ValueError, match='a sample without a response can only be predicted'):
        InstructionBatch.collate([sample], torch.device('cpu'), per_id)


def test_captions_alone_collate_with_one_masked_phrase(samples, per_id):
    batch = InstructionBatch.collate(samples[2:], torch.device('cpu'), per_id)
    assert batch.phrase_mask.tolist() == [[False]]


def test_select_takes_rows_of_every_field(samples, per_id):
    batch = InstructionBatch.collate(samples, torch.device('cpu'), per_id)
    chosen = batch.select([2, 0])
    for name, value in vars(batch).items():
        if name != 'host':
            assert torch.equal(getattr(chosen, name), torch.stack([value[2], value[0]]))
    assert chosen.host.image_index == [batch.host.image_index[r] for r in (2, 0)]
    assert chosen.host.use_stuff == [batch.host.use_stuff[r] for r in (2, 0)]
