# Copyright (c) mvp_mm authors. All rights reserved.
"""Two processes with an image each give the gradients of one process with both."""
from __future__ import annotations

import pytest
import torch
from torch import distributed, multiprocessing

from mvp_mm.engine.wrappers import MVPDistributedDataParallel
from tests.helpers import build_model, make_batch, make_samples, save_tokenizer

# For each image: the tasks asked about it, as arguments of make_samples.
PANOPTIC = dict(task='PanopticTask')
BOXES = dict(task='DetectionTask', with_masks=False, num_objects=4)
CAPTION = dict(task='CaptionTask')
EMPTY = dict(task='PanopticTask', num_objects=0)
SENTENCES = dict(task='ReferringSegmentationTask')
ONE_SENTENCE = dict(task='ReferringSegmentationTask', num_objects=1)
MIXES = dict(
    panoptic_and_sentences=([PANOPTIC], [SENTENCES]),
    panoptic_and_boxes=([PANOPTIC], [BOXES]),
    one_sentence_and_caption=([ONE_SENTENCE], [CAPTION]),
    one_sentence_and_nothing_to_find=([ONE_SENTENCE], [EMPTY]),
    captions_alone=([CAPTION], [CAPTION]),
    several_an_image=([PANOPTIC, SENTENCES, CAPTION], [BOXES]),
)
# Noise of zero leaves denoising nothing random but the order of its queries.
DENOISING = dict(
    denoising_of_different_counts=([dict(task='InstanceTask', num_objects=5)], [BOXES]),
    denoising_beside_stuff=([PANOPTIC], [BOXES]),
    denoising_in_one_process=([SENTENCES], [BOXES]),
)


# The average over images reads other counts.
OVER_IMAGES = dict(
    images_of_different_counts=([PANOPTIC, SENTENCES], [BOXES]),
    images_without_answers=([ONE_SENTENCE], [CAPTION]),
)
AVERAGES = dict(normalization='images', ranking_weight=1.0)
SUMS = dict(normalization='targets', sentence_reduction='sum', ranking_weight=1.0,
            positive_iou=0.7)


def build(path, name):
    noise = dict(label_noise=0.0, box_noise=0.0) if name in DENOISING else None
    over_images = name in OVER_IMAGES
    model = build_model(
        path, llm=dict(loss_average='images' if over_images else 'tokens'),
        perception=dict(denoising=noise, criterion=AVERAGES if over_images else SUMS))
    torch.manual_seed(1)
    for parameter in model.parameters():
        # Nothing stays at an initial zero that would hide a gradient.
        parameter.data.add_(torch.randn_like(parameter) * 0.02)
    return model.train()


def collate(path, mix, images):
    """The batch of the given images of a mix."""
    groups = []
    for seed, requests in enumerate(mix):
        groups.append([s for r in requests for s in make_samples(
            tokenizer_path=path, seed=seed, **r)])
    batch = make_batch(groups)
    return {key: [batch[key][i] for i in images] for key in batch}


def gradients(model, run, batch):
    model.zero_grad(set_to_none=True)
    losses = run(**model.data_preprocessor(batch, True), mode='loss')
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def run_process(rank, path, folder):
    torch.set_num_threads(1)
    distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2)
    found = {}
    for mixes in (MIXES, DENOISING, OVER_IMAGES):
        model = build(path, next(iter(mixes)))
        wrapped = MVPDistributedDataParallel(module=model, device_ids=[0])
        for name, mix in mixes.items():
            found[name] = gradients(model, wrapped, collate(path, mix, [rank]))
    if rank == 0:
        torch.save(found, f'{folder}/gradients.pth')
    distributed.destroy_process_group()


@pytest.fixture(scope='module')
def parallel(tmp_path_factory):
    """Tokenizer folder, and each mix's gradients of two processes."""
    folder = tmp_path_factory.mktemp('parallel')
    path = save_tokenizer(folder / 'tokenizer')
    multiprocessing.spawn(run_process, (path, str(folder)), nprocs=2)
    return path, torch.load(folder / 'gradients.pth')


@pytest.mark.parametrize('name', [*MIXES, *DENOISING, *OVER_IMAGES])
def test_two_processes_give_the_gradients_of_one(parallel, name):
    path, found = parallel
    mix = {**MIXES, **DENOISING, **OVER_IMAGES}[name]
    model = build(path, name)
    expected = gradients(model, model, collate(path, mix, [0, 1]))
    largest = max(g.abs().max() for g in expected.values())
    assert largest > 0
    for parameter, gradient in expected.items():
        scale = torch.maximum(gradient.abs().max(), 1e-2 * largest)
        error = (found[name][parameter] - gradient).abs().max() / scale
        assert error <= 1e-5, f'{parameter}: {error:.1e}'
