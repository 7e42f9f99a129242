# Copyright (c) mvp_mm authors. All rights reserved.
"""Puts referring expressions into words."""
from __future__ import annotations

from random import Random

from mvp_mm.synthetic.expressions import NEXT_TO, Expression
from mvp_mm.synthetic.vocabulary import NUMBER_WORDS

ORDINALS = ('first', 'second', 'third', 'fourth')
MOST = {'left': 'leftmost', 'right': 'rightmost', 'top': 'topmost', 'bottom': 'bottommost'}
END = {'left': 'furthest left', 'right': 'furthest right', 'top': 'nearest the top',
       'bottom': 'nearest the bottom'}
SYNONYMS = {'largest': 'biggest', 'smallest': 'smallest', 'left of': 'to the left of',
            'right of': 'to the right of', 'above': 'over', 'below': 'under',
            NEXT_TO: 'beside'}


def phrase(expression: Expression, count: int, rng: Random) -> str:
    """Words of one expression that has ``count`` targets (0 reads like one or many)."""
    many = count > 1 or (count == 0 and expression.kind != 'ordinal' and rng.random() < 0.3)
    noun, word = expression.noun.text(many), expression.word
    article = 'the '
    if many and expression.kind != 'extreme':
        numbered = 'both ' if count == 2 else f'the {NUMBER_WORDS[count]} '
        article = rng.choice(['the ', 'all ', 'all the ', numbered if count else 'the '])
        if count == 2 and article.startswith('all'):
            article = 'the '
    if expression.kind == 'attribute':
        return f'{article}{noun}'
    if expression.kind == 'extreme':
        return _extreme_phrase(expression, noun, many, rng)
    if expression.kind == 'on_stuff':
        return f'{article}{noun} on the {word}'
    if expression.kind == 'ordinal':
        return f'the {ORDINALS[expression.rank - 1]} {noun} from the {word}'
    if rng.random() < 0.4:
        word = SYNONYMS[word]
    return f'{article}{noun} {word} the {expression.anchor.text()}'


def _extreme_phrase(expression: Expression, noun: str, many: bool, rng: Random) -> str:
    """Words of a superlative."""
    word = expression.word
    number = f'{NUMBER_WORDS[expression.rank]} ' if many and expression.rank > 1 else ''
    if word in MOST:
        if rng.random() < 0.35:
            return f'the {number}{noun} {END[word]}'
        return f'the {number}{MOST[word]} {noun}'
    return f'the {number}{rng.choice([word, SYNONYMS[word]])} {noun}'
