# Copyright (c) mvp_mm authors. All rights reserved.
"""The rules that say an expression in other words."""
from __future__ import annotations

import pytest

from mvp_mm.analysis import paraphrases


@pytest.mark.parametrize('rule, before, after', [
    ('side_last', 'the left man', 'the man on the left'), ('side_last', 'left of the car', None),
    ('side_last', 'back row', 'row in the back'), ('side_first', 'Man on left.', 'left man'),
    ('side_first', 'the dog on the right', 'the right dog'), ('side_first', 'man on a bike', None),
    ('most_last', 'the leftmost star', 'the star furthest left'), ('most_last', 'the star', None),
    ('relation_first', 'the star above the car', 'above the car, the star'),
    ('relation_first', 'the cup and the jar left of the car', None),
    ('synonym', 'big man beside the couch', 'large guy next to the sofa'),
    ('synonym', 'the mantel', None), ('without_articles', 'the man in a hat', 'man in hat'),
    ('without_articles', 'theatre', None), ('with_article', 'man in red', 'the man in red'),
    ('with_article', 'his hat', None), ('passive', 'dog', 'dog that can be seen in the image'),
    ('request', 'dog', 'please find dog')])
def test_paraphrases(rule, before, after):
    assert paraphrases.paraphrase(before, rule) == after


@pytest.mark.parametrize('rule, text', [
    ('side_last', 'right behind man'), ('side_last', 'bottom right'), ('side_last', 'left of it'),
    ('side_last', 'left back of the truck'), ('side_last', 'left man next to woman'),
    ('side_first', 'man on the left of woman in the right'),
    ('side_first', 'man on left holding bat on right'), ('side_first', 'man behind cat on left'),
    ('most_last', 'leftmost man on the right'),
    ('relation_first', 'man on the left of woman in the right'),
    ('relation_first', 'man right behind woman'), ('relation_first', 'cup above car under tree'),
    ('relation_first', 'the over weight man'), ('synonym', 'over weight man'),
    ('synonym', 'woman over there'), ('synonym', 'big man below average')])
def test_an_expression_whose_meaning_may_change_is_left_alone(rule, text):
    assert paraphrases.paraphrase(text, rule) is None


@pytest.mark.parametrize('rule, before, after', [
    ('relation_first', 'man on the left of a woman', 'on the left of a woman, man'),
    ('relation_first', 'man in front of car', 'in front of car, man'),
    ('synonym', 'bird over the car', 'bird above the car')])
def test_one_place_alone_is_moved_or_renamed(rule, before, after):
    assert paraphrases.paraphrase(before, rule) == after


def test_every_rule_has_a_tested_example():
    marks = test_paraphrases.pytestmark[0].args[1]
    assert {rule for rule, _, after in marks if after} == set(paraphrases.RULES)
