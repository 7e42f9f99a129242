# Copyright (c) mvp_mm authors. All rights reserved.
"""The whole released model at the size of the recordings, and their samples."""
from __future__ import annotations

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

import mvp_mm.models  # noqa: F401  registers the components
from mvp_mm.converters import convert_layout
from mvp_mm.registry import MODELS, TASKS
from mvp_mm.structures import Instruction, PerceptionDataSample, Segment, SegmentKind
from tests.test_converters.golden import load
from tests.test_converters.released import NUM_THINGS, PERCEPTION

IMAGE, SUMMARY, NAME, EXPRESSION = -200, -201, -202, -204
VISUAL, PAD = 6, 198


def save_words(folder):
    """A tokenizer with as many words as the recordings' LLM embeds, ``[PAD]`` among them."""
    vocabulary = {f'w{i}': i for i in range(200) if i not in (0, 1, PAD, 199)}
    vocabulary |= {'[UNK]': 0, '<|endoftext|>': 1, '[PAD]': PAD, '[SEG]': 199}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token='[UNK]'))
    PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token='<|endoftext|>', unk_token='[UNK]',
        additional_special_tokens=['[PAD]', '[SEG]']).save_pretrained(str(folder))
    return str(folder)


def released_model(tokenizer_path):
    """The model with the recorded weights."""
    torch.manual_seed(0)
    model = MODELS.build(dict(
        type='ReleasedMVPLM', embed_dims=64, thinking=False,
        encoder=dict(type='ImageEncoder', frozen=True, backbone=dict(
            type='mmdet.SwinTransformer', pretrain_img_size=128, embed_dims=32,
            depths=(2, 2, 2, 2), num_heads=(2, 4, 8, 16), window_size=4, drop_path_rate=0.0)),
        connector=dict(type='ConvConnector', planes=128),
        llm=dict(type='CausalLM', attn_implementation='eager', kept_layers=(0, 1, 2, 3),
                 config=dict(
                     model_type='phi', vocab_size=200, hidden_size=96, intermediate_size=160,
                     num_hidden_layers=3, num_attention_heads=4, partial_rotary_factor=0.5,
                     hidden_act='gelu_new', layer_norm_eps=1e-5, max_position_embeddings=1024)),
        tokenizer=dict(type='ReleasedTokenizer', path=tokenizer_path, num_visual_tokens=VISUAL,
                       max_length=1024),
        pixel_decoder=dict(type='ReleasedPixelDecoder', num_layers=2, num_heads=4,
                           feedforward=128),
        perception={key: value for key, value in PERCEPTION.items()
                    if key not in ('llm_dims', 'embed_dims')}))
    recorded = load('J_e2e_weights')
    done, _ = convert_layout(recorded['sd'], num_heads=4, decoder_points=4)
    model.load_state_dict(done.state)
    return model.eval()


def expand(given, row):
    """Ids of a recorded row with visual tokens, names and expression, and the phrase of each."""
    ids, phrase_index, name = [], [], 0
    for token in given['input_ids'][row].tolist():
        if token == IMAGE:
            new, phrase = [PAD] * VISUAL, -1
        elif token == SUMMARY:
            new, phrase = [PAD], -1
        elif token == NAME:
            new, phrase = given['class_name_ids'][row][given['cls_indices'][row] == name], name
            name += 1
        elif token == EXPRESSION:
            new, phrase = given[f'token_refer_id.{row}'], 0
        else:
            new, phrase = [token], -1
        ids += list(map(int, new))
        phrase_index += [phrase] * len(new)
    return np.array(ids), np.array(phrase_index)


def recorded_sample(recorded, task):
    """The question of an evaluation recording, about its one image."""
    ids, phrase_index = expand(recorded['in'], 0)
    count = phrase_index.max() + 1
    word = task['type'] == 'ReleasedPanopticTask'
    sample = PerceptionDataSample(metainfo=dict(
        image_index=0, ori_shape=(192, 216), img_shape=(128, 144), batch_input_shape=(128, 160)))
    sample.instruction = Instruction(
        'test', 'word' if word else 'sentence', [Segment(SegmentKind.PHRASE, 'x')] * count, [],
        phrases=['x'] * count, is_thing=np.arange(count) < (NUM_THINGS if word else 1),
        use_stuff_queries=word, input_ids=ids, phrase_index=phrase_index,
        labels=np.full(len(ids), -100), prompt_length=len(ids),
        image_start=int(np.flatnonzero(recorded['in']['input_ids'][0] == IMAGE)[0]))
    sample.task_object = TASKS.build(task)
    return sample
