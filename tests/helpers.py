# Copyright (c) mvp_mm authors. All rights reserved.
"""Small models and batches that tests build without data or downloads."""
from __future__ import annotations

import copy
import importlib.util
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import mvp_mm.models  # noqa: F401  registers the components
import mvp_mm.tasks  # noqa: F401
from mvp_mm.registry import MODELS, TASKS, TOKENIZERS
from mvp_mm.structures import ImageAnnotation, PerceptionDataSample, Referral
from mvp_mm.tasks import prompts

ROOT = Path(__file__).resolve().parents[1]
CANVAS = 128
NAMES = ('circle', 'square', 'star', 'grass')


def save_tokenizer(folder: Path) -> str:
    """Train a byte-level BPE on the task texts and save it as a Hugging Face folder."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = [prompts.WORD_DESCRIPTION, prompts.SENTENCE_DESCRIPTION, prompts.RESULT,
             ' '.join(NAMES), ' the red circle on the left of the star']
    tokenizer.train_from_iterator(texts * 4, trainers.BpeTrainer(
        vocab_size=400, special_tokens=['<|endoftext|>'],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token='<|endoftext|>').save_pretrained(str(folder))
    return str(folder)


@lru_cache
def base_model_config() -> Config:
    return Config.fromfile(ROOT / 'configs/_base_/models/mvplm_swin-b_phi-1.5.py')


def tiny_model_config(tokenizer_path: str, **overrides) -> dict:
    """The full-size model's config with every size cut down; overrides are merged in."""
    config = copy.deepcopy(base_model_config())
    config.merge_from_dict(dict(model=dict(
        embed_dims=32,
        encoder=dict(frozen=False, backbone=dict(
            embed_dims=16, depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 4), window_size=4)),
        llm=dict(pretrained=None, config=dict(
            vocab_size=512, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=256)),
        connector=dict(merge=2),
        tokenizer=dict(path=tokenizer_path, num_visual_tokens=4, max_length=256),
        pixel_decoder=dict(num_layers=1, num_heads=4, num_points=2, feedforward=64),
        perception=dict(
            num_stuff_queries=3, query_generator=dict(num_queries=8),
            decoder=dict(num_layers=2, num_heads=4, num_points=2, feedforward=64),
            denoising=dict(num_queries=8)),
        max_response_tokens=6)))
    config.merge_from_dict(dict(model=overrides))
    return config.model.to_dict()


def load_tool(name: str) -> Any:
    """A script of tools/ as a module; ``name`` is its path there without ``.py``."""
    path = ROOT / 'tools' / f'{name}.py'
    spec = importlib.util.spec_from_file_location(f'tool_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def build_model(tokenizer_path: str, seed: int = 0, **overrides):
    """A tiny model with seeded weights."""
    torch.manual_seed(seed)
    return MODELS.build(tiny_model_config(tokenizer_path, **overrides))


def make_annotation(num_objects: int = 3, seed: int = 0, source: str = 'test') -> ImageAnnotation:
    """An image with objects of random classes, a sentence each and a caption."""
    rng = np.random.default_rng(seed)
    return ImageAnnotation(
        source=source, vocabulary=NAMES, vocabulary_is_thing=np.array([1, 1, 1, 0], bool),
        labels=rng.integers(0, len(NAMES), num_objects), crowd=np.zeros(num_objects, bool),
        referrals=[Referral(f'the red circle {i}', [i]) for i in range(num_objects)],
        captions=['a red circle on the left.'],
        caption_spans=[('red circle', [0])] if num_objects else [])


def make_samples(task: str, tokenizer_path: str, num_objects: int = 3, seed: int = 0,
                 training: bool = True, with_masks: bool = True, visual_tokens: int = 4,
                 **task_args) -> list[PerceptionDataSample]:
    """Data samples of one image for a task, as the pipeline would pack them."""
    rng = np.random.default_rng(seed)
    built = TASKS.build(dict(type=task, **task_args))
    tokenizer = TOKENIZERS.build(dict(
        type='InstructionTokenizer', path=tokenizer_path, num_visual_tokens=visual_tokens,
        max_length=256))
    corner = rng.uniform(0, CANVAS * 0.5, (num_objects, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(8, CANVAS * 0.5, (num_objects, 2))], 1)
    grid_y, grid_x = np.mgrid[:CANVAS, :CANVAS] + 0.5
    masks = ((grid_x > boxes[:, 0, None, None]) & (grid_x < boxes[:, 2, None, None])
             & (grid_y > boxes[:, 1, None, None]) & (grid_y < boxes[:, 3, None, None]))
    samples = []
    for request in built.instruct(make_annotation(num_objects, seed), rng, training):
        sample = PerceptionDataSample(metainfo=dict(
            img_id=seed, img_path='', ori_shape=(CANVAS, CANVAS), img_shape=(CANVAS, CANVAS),
            batch_input_shape=(CANVAS, CANVAS), scale_factor=(1.0, 1.0), task=built.name,
            **request.meta))
        sample.instruction = tokenizer.tokenize(request.instruction)
        sample.task_object = built
        truth = InstanceData(
            bboxes=torch.from_numpy(boxes[request.targets]).float(),
            labels=torch.from_numpy(request.labels))
        if with_masks:
            truth.masks = torch.from_numpy(masks[request.targets])
        sample.gt_instances = truth
        samples.append(sample)
    return samples


def make_batch(groups: list[list[PerceptionDataSample]], seed: int = 0) -> dict:
    """A collated batch: one random image for each group of samples."""
    generator = torch.Generator().manual_seed(seed)
    images = [torch.randint(0, 255, (3, CANVAS, CANVAS), generator=generator, dtype=torch.uint8)
              for _ in groups]
    return dict(inputs=images, data_samples=groups)
