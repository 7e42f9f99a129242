# Copyright (c) mvp_mm authors. All rights reserved.
"""Parts of a measurement become one file; runs of a recipe become a mean and a deviation."""
from __future__ import annotations

import pytest

from mvp_mm.analysis.merging import last_losses, loss_shares, merge, over_seeds, update


def part(dataset, variant='thinking', weights='w', seconds=2):
    return dict(command=f'measure {dataset}', version='1', commit='c', changed=False, hardware={},
                weights=dict(file='f', sha256=weights), config=dict(file='c.py', sha256=dataset),
                settings=dict(images=3, variants={variant: {}}), seconds=seconds,
                figures={variant: {dataset: dict(REC=1.0)}})


def test_parts_are_joined_by_variant_and_dataset():
    found = merge(dict(a=part('x'), b=part('y'), c=part('x', 'direct')))
    assert found['figures'] == dict(
        thinking=dict(x=dict(REC=1.0), y=dict(REC=1.0)), direct=dict(x=dict(REC=1.0)))
    assert found['seconds'] == 6 and len(found['command']) == 3
    assert set(found['settings']['variants']) == {'thinking', 'direct'}


@pytest.mark.parametrize('second, message', [
    (part('y', weights='other'), 'b and a differ in weights'),
    (part('x'), 'b: thinking/x is in another file too')])
def test_parts_that_do_not_belong_together_are_refused(second, message):
    with pytest.raises(ValueError, match=message):
        merge(dict(a=part('x'), b=second))


def test_runs_of_a_recipe_have_a_mean_and_a_sample_deviation():
    found = over_seeds([dict(x=dict(REC=1.0)), dict(x=dict(REC=3.0))])
    assert found == dict(mean=dict(x=dict(REC=2.0)), deviation=dict(x=dict(REC=1.4142)))
    assert over_seeds([dict(REC=1.0)])['deviation'] == dict(REC=0.0)


def test_the_sets_of_a_loss_count_together_at_the_end_of_a_run():
    early = {'loss': 9.0, 'loss_llm': 9.0}
    late = {'loss': 8.0, 'loss_llm': 2.0, 'd0.loss_word': 4.0, 'loss_word': 2.0, 'lr': 1.0}
    assert loss_shares([early] * 9 + [late]) == dict(llm=25.0, word=75.0)
    assert last_losses([early] * 9 + [late]) == dict(total=late['loss'], llm=late['loss'] / 4,
                                                     word=late['loss'] * 3 / 4)


def test_a_dataset_measured_again_takes_its_place_and_says_what_made_it():
    whole = merge(dict(a=part('x'), b=part('y')))
    again = dict(part('y'), commit='d', figures=dict(thinking=dict(y=dict(REC=2.0))))
    found = update(whole, again)
    assert found['figures'] == dict(thinking=dict(x=dict(REC=1.0), y=dict(REC=2.0)))
    assert found['commit'] == 'c' and list(found['updates']) == ['y']
    assert found['updates']['y']['commit'] == 'd'
    assert found['updates']['y']['command'] == 'measure y'


@pytest.mark.parametrize('again, message', [
    (part('y', weights='v'), 'weights differ'),
    (part('y', variant='direct'), 'variants differ'),
    (part('z'), 'thinking/z is not in both'),
    (dict(part('y'), settings=dict(images=2, variants={})), 'images differ'),
])
def test_another_model_or_a_part_of_the_variants_takes_no_place(again, message):
    with pytest.raises(ValueError, match=message):
        update(merge(dict(a=part('x'), b=part('y'))), again)
