# Copyright (c) mvp_mm authors. All rights reserved.
"""A tiny VLM with random weights, saved and captioned with as a real one would be."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from mvp_mm.captioning.backends import Answer, CaptionerError, CaptionSampling, ImageError
from mvp_mm.captioning.local import TransformersBackend

TEMPLATE = ("{% for message in messages %}{% for part in message['content'] %}"
            "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
            "{% endfor %}{% endfor %} A:")


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp('vlm')
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(
        {token: k for k, token in enumerate([*alphabet, '</s>', '<image>'])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token='</s>', pad_token='</s>',
        additional_special_tokens=['<image>'])
    LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size=dict(shortest_edge=16), crop_size=dict(height=16, width=16)),
        tokenizer=fast, patch_size=8, vision_feature_select_strategy='default',
        num_additional_image_tokens=1, chat_template=TEMPLATE).save_pretrained(folder)
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        image_size=16, patch_size=8, projection_dim=16)
    text = LlamaConfig(
        vocab_size=258, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=128, eos_token_id=256, pad_token_id=256)
    LlavaForConditionalGeneration(LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=257)).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / f'{k}.png' for k in range(3)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(path)
    return paths


def test_a_batch_answers_as_single_images_do(model, images):
    backend = TransformersBackend(model, 'What?', CaptionSampling(max_tokens=5, temperature=0))
    answers = backend.caption(images)
    assert [type(answer) for answer in answers] == [Answer] * 3 and answers[0].text, answers
    assert answers == [backend.caption([image])[0] for image in images]


def test_a_broken_image_does_not_spoil_its_batch(model, images):
    backend = TransformersBackend(model, 'What?', CaptionSampling(max_tokens=5, temperature=0))
    whole = backend.caption(images)
    images[1].write_bytes(b'no image')
    answers = backend.caption(images)
    assert isinstance(answers[1], ImageError)
    assert [answers[0], answers[2]] == [whole[0], whole[2]]


def test_sampling_follows_its_seed(model, images):
    drawn = [TransformersBackend(model, 'What?', CaptionSampling(
        max_tokens=8, temperature=1.0, seed=seed)).caption(images) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(CaptionerError, match=str(tmp_path)):
        TransformersBackend(str(tmp_path), 'What?', CaptionSampling())
