# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

import pytest
import torch

from mvp_mm.models.losses import Denoising
from tests.test_models.parts import WIDTH, make_batch, make_targets

KINDS = ['word', 'sentence', 'stuff', 'word', 'word']
PHRASES = [4, 1, 3, 2, 3]
LABELS = [[0, 3, 1], [0], [1, 2, 1, 0], [], [1, 1, 2, 0, 2]]
# Targets that are noised: the third row's phrase 1 is stuff.
NOISED = [[0, 1, 2], [0], [1, 3], [], [0, 1, 2, 3, 4]]


@pytest.fixture
def scene():
    batch = make_batch(KINDS, PHRASES, things=[[True] * 4, [True], [True, False, True]])
    return make_targets(LABELS, batch), batch, torch.randn(len(KINDS), 4, WIDTH)


def noise(scene, num_slots=12, **args):
    return Denoising(WIDTH, **args)(*scene, num_slots)


def test_word_rows_with_things_get_denoising_rows(scene):
    assert noise(scene).source.tolist() == [0, 2, 4]
    targets = scene[0]
    targets.valid[2, [1, 3]] = False
    assert noise(scene).source.tolist() == [0, 4]


def test_each_group_holds_every_target_once(scene):
    found = noise(scene, num_slots=12, num_queries=12)
    for w, source in enumerate(found.source.tolist()):
        count = len(NOISED[source])
        groups = 12 // count
        assert found.valid[w].tolist() == [True] * (groups * count) + [False] * (
            12 - groups * count)
        for g in range(groups):
            group = found.target[w, g * count:(g + 1) * count]
            assert sorted(group.tolist()) == NOISED[source]


def test_a_query_sees_its_own_group_and_itself(scene):
    found = noise(scene, num_slots=12, num_queries=12)
    for w, source in enumerate(found.source.tolist()):
        count = len(NOISED[source])
        for q in range(12):
            for other in range(12):
                same = q // count == other // count
                both = found.valid[w, q] and found.valid[w, other]
                assert found.allowed[w, q, other] == ((same and both) or q == other)


@pytest.mark.parametrize(('num_slots', 'num_queries'), [(12, 4), (4, 12)])
def test_crowded_images_are_capped_and_no_target_always_left_out(scene, num_slots, num_queries):
    left_out = []
    for _ in range(30):
        found = noise(scene, num_slots=num_slots, num_queries=num_queries)
        assert found.content.shape[1] == num_slots
        assert (found.valid.sum(1) <= 4).all()
        crowded = found.target[2][found.valid[2]].tolist()
        assert len(crowded) == len(set(crowded)) == 4
        left_out.append(set(range(5)) - set(crowded))
    assert set.union(*left_out) == set(range(5))


def test_matches_name_the_target_of_every_query_in_every_set(scene):
    found = noise(scene)
    matches = found.matches(3)
    expected = [(s, w, q, int(found.target[w, q])) for s in range(3)
                for w in range(3) for q in range(12) if found.valid[w, q]]
    columns = (matches.sets, matches.rows, matches.queries, matches.targets)
    assert list(zip(*(c.tolist() for c in columns), strict=True)) == expected


def test_without_noise_queries_start_from_their_targets(scene):
    targets, batch, text = scene
    denoising = Denoising(WIDTH, label_noise=0.0, box_noise=0.0)
    found = denoising(targets, batch, text, 12)
    for w, source in enumerate(found.source.tolist()):
        for q in found.valid[w].nonzero()[:, 0]:
            target = found.target[w, q]
            torch.testing.assert_close(found.boxes[w, q], targets.boxes[source, target])
            phrase = text[source, targets.labels[source, target]]
            torch.testing.assert_close(found.content[w, q], denoising.content(phrase))


def test_box_noise_stays_within_its_bounds(scene):
    targets = scene[0]
    furthest = torch.zeros(4)
    for _ in range(20):
        found = noise(scene, box_noise=0.4)
        assert (found.boxes > 0).all() and (found.boxes <= 1).all()
        clean = targets.boxes[found.source].gather(1, found.target[..., None].expand(-1, -1, 4))
        change = (found.boxes - clean).abs()
        bound = torch.cat([clean[..., 2:] * 0.4 / 2, clean[..., 2:] * 0.4], -1)
        assert (change <= bound + 1e-6)[found.valid].all()
        furthest = torch.maximum(furthest, (change / bound)[found.valid].amax(0))
    assert (furthest > 0.8).all()


def test_boxes_of_border_targets_stay_inside_the_canvas(scene):
    targets = scene[0]
    targets.boxes[..., :2] = 1.0
    found = noise(scene, box_noise=1.0)
    assert (found.boxes >= 1e-4).all() and (found.boxes <= 1.0).all()


def test_label_noise_stays_inside_the_row_s_phrases(scene):
    targets, batch, text = scene
    denoising = Denoising(WIDTH, label_noise=1.0)
    drawn = [set() for _ in LABELS]
    for _ in range(20):
        found = denoising(targets, batch, text, 12)
        for w, source in enumerate(found.source.tolist()):
            distance = torch.cdist(found.content[w], denoising.content(text[source]))
            assert (distance.amin(1) < 1e-4).all()
            drawn[source] |= set(distance.argmin(1).tolist())
    assert [drawn[r] for r in (0, 2, 4)] == [{0, 1, 2, 3}, {0, 1, 2}, {0, 1, 2}]


def test_label_noise_happens_with_its_probability(scene):
    targets, batch, text = scene
    denoising = Denoising(WIDTH, label_noise=0.5)
    kept = []
    for _ in range(100):
        found = denoising(targets, batch, text, 12)
        labels = targets.labels[0][found.target[0]]
        clean = denoising.content(text[0, labels])
        kept.append((found.content[0] - clean).abs().amax(1)[found.valid[0]] < 1e-5)
    # Half are redrawn, and a redrawn one of 4 phrases is the same in a quarter of the cases.
    assert torch.cat(kept).float().mean().item() == pytest.approx(0.625, abs=0.05)


def test_no_row_to_denoise_still_reaches_the_weights():
    batch = make_batch(['sentence', 'word'], [1, 2])
    denoising = Denoising(WIDTH)
    found = denoising(make_targets([[0], []], batch), batch, torch.randn(2, 2, WIDTH), 6)
    assert found.content.shape == (0, 6, WIDTH) and len(found.matches(2)) == 0
    found.content.sum().backward()
    assert all((p.grad == 0).all() for p in denoising.parameters())
