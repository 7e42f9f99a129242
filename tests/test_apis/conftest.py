# Copyright (c) mvp_mm authors. All rights reserved.
"""A tiny model with random weights, saved as a checkpoint that carries its config."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mvp_mm.apis import PerceptionInferencer
from tests.helpers import NAMES, build_model, save_tokenizer, tiny_model_config

# Room for words of its own before the result that ends every response.
ROOM = 24
STUFF_FLAGS = (True, True, True, False)
TASKS = dict(
    panoptic='PanopticTask', semantic='SemanticTask', instance='InstanceTask',
    detection='DetectionTask', grounding='PhraseGroundingTask',
    referring_segmentation='ReferringSegmentationTask',
    generalized_referring='GeneralizedReferringTask', caption='CaptionTask')


def inferencer_config(tokenizer_path, **model):
    """A config with the inferencer's part, for images on a canvas of 128 x 128."""
    tokenizer = dict(
        type='InstructionTokenizer', path=tokenizer_path, num_visual_tokens=4, max_length=256)
    return Config(dict(
        default_scope='mvp_mm',
        model=tiny_model_config(tokenizer_path, **dict(dict(max_response_tokens=ROOM), **model)),
        inferencer=dict(
            pipeline=[
                dict(type='TokenizeRequests', tokenizer=tokenizer, response_room=ROOM),
                dict(type='ResizeToCanvas', scale=(128, 128)),
                dict(type='PadToCanvas', size=(128, 128), pad_val=dict(img=(104, 116, 124))),
                dict(type='PackPerceptionInputs')],
            tasks={name: dict(type=kind) for name, kind in TASKS.items()})))


@pytest.fixture(scope='session')
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp('checkpoint')
    tokenizer = save_tokenizer(folder / 'tokenizer')
    path = folder / 'tiny.pth'
    meta = dict(cfg=inferencer_config(tokenizer).pretty_text,
                dataset_meta=dict(classes=NAMES, thing_flags=STUFF_FLAGS))
    model = build_model(tokenizer, max_response_tokens=ROOM)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return path


@pytest.fixture(scope='session')
def inferencer(checkpoint):
    return PerceptionInferencer(None, checkpoint, 'cpu')


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
