# Copyright (c) mvp_mm authors. All rights reserved.
"""The released variant at the size of the recordings, with converted weights."""
from __future__ import annotations

import torch

import mvp_mm.models  # noqa: F401  registers the components
from mvp_mm.converters import convert_layout
from mvp_mm.models.losses import SampledMasks, Targets
from mvp_mm.models.losses.sampling import features_at_points
from mvp_mm.models.released import ReleasedCriterion
from mvp_mm.models.state import ImageState, InstructionBatch
from mvp_mm.registry import MODELS
from tests.test_converters.golden import load

NUM_THINGS = 80
PERCEPTION = dict(
    type='ReleasedPerceptionHead', llm_dims=64, embed_dims=64, num_stuff_queries=8,
    query_generator=dict(type='ReleasedQueryGenerator', num_queries=12),
    decoder=dict(type='DINODecoder', num_layers=3, num_heads=4, num_points=4, feedforward=128),
    similarity_head=dict(type='ReleasedSimilarityHead'),
    box_head=dict(type='ReleasedBoxHead'), mask_head=dict(type='MaskHead'),
    denoising=dict(type='ReleasedDenoising', num_queries=20, box_noise=0.4),
    matcher=dict(type='ReleasedMatcher', num_points=256),
    criterion=dict(type='ReleasedCriterion', num_points=256))


def released_head(recorded):
    """A head with the weights of a recording; those that the recording lacks are random."""
    torch.manual_seed(0)
    done, _ = convert_layout(recorded['sd'], num_heads=4, decoder_points=4)
    head = MODELS.build(PERCEPTION)
    prefix = 'perception.'
    state = {key.removeprefix(prefix): value for key, value in done.state.items()
             if key.startswith(prefix)}
    assert not head.load_state_dict(state, strict=False).unexpected_keys
    return head.eval()


def finest_first(tokens, shapes):
    """Tokens (B, S, ...) of levels that the recording counts from the coarsest."""
    sizes = [int(h * w) for h, w in shapes]
    return torch.cat(tokens.split(sizes, 1)[::-1], 1)


def token_order(shapes):
    """(S,) our index of each recorded token."""
    sizes = [int(h * w) for h, w in shapes]
    ours = torch.arange(sum(sizes)).split(sizes[::-1])
    return torch.cat(ours[::-1])


def image_state(memory, shapes, mask_features=None):
    """An image state from memory (B, S, C), finest first, and the levels' shapes, likewise."""
    shapes = [(int(h), int(w)) for h, w in shapes]
    sizes = [h * w for h, w in shapes]
    return ImageState(
        visual_tokens=torch.zeros(len(memory), 0, 1), memory=memory,
        mask_features=mask_features,
        padding_mask=torch.zeros(memory.shape[:2], dtype=torch.bool),
        spatial_shapes=torch.tensor(shapes), shapes=shapes,
        level_start_index=torch.tensor([sum(sizes[:i]) for i in range(len(sizes))]))


def maps_state(recorded, maps=None):
    """The state of recorded maps at strides 8 to 64."""
    maps = maps or [recorded['in'][f'multi_scale_features.{i}'] for i in range(4)]
    memory = torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1)
    return image_state(
        memory, [m.shape[-2:] for m in maps], recorded['in'].get('mask_features'))


def instructions(task, rows, phrases):
    """R instructions about as many images, without tokens; the background is their last word."""
    empty = torch.zeros(rows, 1, dtype=torch.long)
    word = not task.startswith('referring')
    column = torch.arange(phrases).expand(rows, -1)
    panoptic = task.startswith('panoptic')
    return InstructionBatch(
        ids=empty, mask=empty >= 0, phrase_index=empty - 1, labels=empty - 100,
        image_start=torch.zeros(rows, dtype=torch.long), image_index=torch.arange(rows),
        phrase_mask=column >= 0, is_thing=column < (NUM_THINGS if panoptic else phrases),
        is_word=torch.full((rows, ), word), use_stuff=torch.full((rows, ), panoptic),
        needs_decoder=torch.ones(rows, dtype=torch.bool),
        per_position=torch.zeros(rows, dtype=torch.long))


def text_of(recorded):
    """(R, K, C) recorded text embeddings."""
    given = recorded['in']
    return given['class_name_embedding' if 'class_name_embedding' in given else 'SEG_embedding']


def load_task(name, task):
    """A recording, its text embeddings and instructions."""
    recorded = load(f'{name}_{task}')
    text = text_of(recorded)
    return recorded, text, instructions(task, *text.shape[:2])


def targets_of(recorded, batch, masks=True):
    """Recorded targets, padded."""
    given = recorded['in']
    rows = len(batch.ids)
    labels = [given[f'targets.{r}.labels'] for r in range(rows)]
    boxes = [given[f'targets.{r}.boxes'] for r in range(rows)]
    counts = torch.tensor([len(x) for x in labels])
    shape = (rows, max(1, int(counts.max())))
    valid = torch.arange(shape[1]) < counts[:, None]
    padded, where = torch.zeros(shape, dtype=torch.long), torch.full((*shape, 4), 0.5)
    padded[valid], where[valid] = torch.cat(labels), torch.cat(boxes)
    index = torch.full(shape, -1)
    stacked = torch.zeros(0, 128, 160, dtype=torch.bool)
    if masks and 'targets.0.masks' in given:
        stacked = torch.cat([given[f'targets.{r}.masks'] for r in range(rows)])
        index[valid] = torch.arange(len(stacked))
    stuff = valid & (padded >= NUM_THINGS) & batch.use_stuff[:, None]
    return Targets(padded * batch.is_word[:, None], where, valid, stuff, index, stacked)


LOSSES = dict(loss_word='loss_class_name_class', loss_sent='loss_SEG_class',
              loss_box_l1='loss_bbox', loss_box_giou='loss_giou', loss_mask_bce='loss_mask',
              loss_mask_dice='loss_dice')


def masks_at(features, targets, points):
    """Mask features and true masks at recorded points (1, P, 2), all of them compared."""
    return SampledMasks(
        features_at_points(features, points[0]),
        ReleasedCriterion.truth_at(targets.masks, points[0]), torch.arange(len(features)))


def recorded_name(name, layers):
    """What the recording calls one of our losses; its set 0 are the initial queries."""
    place, _, kind = name.rpartition('.')
    place, denoised = place.removeprefix('denoise.'), place.startswith('denoise.')
    last = f'd{layers}' if denoised else ''
    suffix = '' if place == last else '_interm' if place == 'enc' else f'_{place[1:]}'
    return f'loss.{LOSSES[kind]}{suffix}' + '_dn' * denoised


def replay(monkeypatch, name, *draws):
    """Have a random function of torch return recorded draws, each of the shape asked for."""
    left = list(draws)

    def drawn(like, *_, **__):
        draw = left.pop(0)
        assert draw.shape == like.shape
        return draw

    monkeypatch.setattr(torch, name, drawn)
