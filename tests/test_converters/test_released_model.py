# Copyright (c) mvp_mm authors. All rights reserved.
"""The whole released model against the recordings: from image and tokens to answers."""
from __future__ import annotations

import pytest
import torch

from mvp_mm.converters import convert_layout
from mvp_mm.models.state import InstructionBatch
from tests.test_converters.golden import load, needs_golden
from tests.test_converters.released_model import recorded_sample, released_model, save_words

pytestmark = needs_golden
# As many pairs are kept as there are dynamic queries.
TASKS = dict(panoptic=dict(type='ReleasedPanopticTask', max_instances=12),
             referring=dict(type='ReleasedReferringTask', num_candidates=12))
every_task = pytest.mark.parametrize('task', TASKS)


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    return released_model(save_words(tmp_path_factory.mktemp('words')))


def case(task):
    recorded = load(f'J_e2e_eval_{task}')
    return recorded, recorded_sample(recorded, TASKS[task])


def close(found, expected, atol=1e-4):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def test_of_the_authors_checkpoint_only_what_nothing_uses_is_left():
    done, layout = convert_layout(load('J_e2e_weights')['sd'], num_heads=4, decoder_points=4)
    assert layout.title == "MVP-LM's authors"
    assert {key.rsplit('.', 1)[0] for key in done.left} == {
        'expanded_seg_query_project', 'region_projector', 'seg_query_projector', 'thing_embed',
        'thing_query', 'predictor.REGION_proj.layers.0', 'predictor.REGION_proj.layers.1',
        'predictor.SEG_query_embed', 'predictor.SEG_query_feat'}


@every_task
def test_image_state_is_the_recorded_one(model, task):
    recorded, sample = case(task)
    with torch.no_grad():
        state = model.encode(recorded['in']['images'], [sample])
    close(state.visual_tokens, recorded['mid']['image_tokens'])
    close(state.mask_features, recorded['mid']['mask_features'])
    maps = [recorded['mid'][f'multi_scale_features.{i}'] for i in range(4)]
    close(state.memory, torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1))


@every_task
def test_text_embeddings_are_the_recorded_ones(model, task):
    recorded, sample = case(task)
    batch = InstructionBatch.collate([sample], torch.device('cpu'))
    with torch.no_grad():
        state = model.encode(recorded['in']['images'], [sample])
        close(model.embed_inputs(state, batch), recorded['mid']['inputs_embeds'])
        _, language = model.forward_llm(state, batch)
        found = model.perception.embed_text(language.text, batch).content
    close(found, recorded['mid']['class_name_embedding' if task == 'panoptic'
                                 else 'SEG_embedding'])


@every_task
def test_raw_predictions_are_the_recorded_ones(model, task):
    recorded, sample = case(task)
    with torch.no_grad():
        logits, boxes, masks = model(recorded['in']['images'], [sample], mode='tensor')
    if task == 'panoptic':
        # Names, then background.
        found = torch.cat([logits[..., :133], logits[..., -1:]], -1)
        close(found, recorded['out']['pred_class_name_logits'])
    else:
        close(logits[..., :1], recorded['out']['pred_SEG_logits'])
    close(boxes, recorded['out']['pred_boxes'])
    close(masks, recorded['out']['pred_masks'])


@every_task
def test_answers_are_the_recorded_ones(model, task):
    recorded, sample = case(task)
    model.predict(recorded['in']['images'], [sample])
    expected = {key.removeprefix('instances.'): value for key, value in recorded['out'].items()
                if key.startswith('instances.')}
    order = expected['scores'].argsort(descending=True, stable=True)
    found = sample.pred_instances if task == 'panoptic' else sample.pred_candidates
    order = order[expected['scores'][order] > 0]
    found = found[found.scores > 0]
    close(found.scores, expected['scores'][order])
    differing = (found.masks != expected['pred_masks'][order]).float().mean()
    assert differing < 1e-5
    if task == 'panoptic':
        # Pixels; ours end at the image's border.
        inside = expected['pred_boxes'].clamp(min=0).minimum(torch.tensor([216, 192, 216, 192]))
        close(found.bboxes, inside[order], atol=1e-3)
        assert torch.equal(found.labels, expected['pred_classes'][order])
        assert torch.equal(sample.pred_panoptic_seg['panoptic'], recorded['out']['panoptic_seg'])
        wrong = sample.pred_sem_seg != recorded['out']['semseg_argmax']
        assert wrong.float().mean() < 1e-4
