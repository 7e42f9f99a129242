# Copyright (c) mvp_mm authors. All rights reserved.
"""Read captions of the synthetic world: what they mention, and whether it is true of a scene."""
from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from mvp_mm.synthetic.captions import MORE, MOSTLY, PLACES, place_of
from mvp_mm.synthetic.expressions import Noun
from mvp_mm.synthetic.scene import Scene
from mvp_mm.synthetic.vocabulary import (
    COLOURS,
    NUMBER_WORDS,
    SIZES,
    STUFF_CLASSES,
    TEXTURES,
    THING_CLASSES,
    plural,
)

# What is judged of a caption. Of objects every word that the caption says must hold, of colours the
# shape and the colour, of shapes the shape alone.
ASPECTS = ('objects', 'colours', 'shapes', 'stuff', 'counts', 'places')
_HEADS = {form: name for name in (*THING_CLASSES, 'thing') for form in (name, plural(name))}
_COUNTS = {'a': 1, 'an': 1, **{word: number for number, word in enumerate(NUMBER_WORDS)}}
_ATTRIBUTES = {word: kind for kind, words in (
    ('size', SIZES), ('texture', TEXTURES), ('colour', COLOURS)) for word in words}


def _any(words: Iterable[str]) -> str:
    return '|'.join(sorted(map(re.escape, words), key=len, reverse=True))


MENTION = re.compile(
    rf'\b(?:(?P<determiner>{_any((*_COUNTS, MOSTLY, MORE))}) )?'
    rf'(?P<attributes>(?:(?:{_any(_ATTRIBUTES)}) )*)(?P<head>{_any(_HEADS)})\b'
    rf'(?: (?P<place>{_any(PLACES)})\b)?')
_STUFF = re.compile(rf'\b(?:{_any(STUFF_CLASSES)})\b')
# Words that join mentions and claim nothing.
_JOINTS = re.compile(r'\b(?:there (?:is|are)|and|on)\b')


@dataclass(frozen=True)
class Mention:
    """Things that a caption names together.

    Attributes:
        noun: What it calls them.
        count: How many it says there are; None where it gives no number.
        place: Where it says they are.
    """

    noun: Noun
    count: int | None = None
    place: str | None = None


@dataclass
class CaptionReading:
    """What a caption mentions.

    Attributes:
        mentions: Things, in the order of the text.
        stuff: Grounds.
        partial: Whether it says that there are more things, so that its numbers are no totals.
        unread: Words that no caption of the world's grammar has in this place.
        words: All words.
    """

    mentions: list[Mention] = field(default_factory=list)
    stuff: set[str] = field(default_factory=set)
    partial: bool = False
    unread: int = 0
    words: int = 0


class Verdict(NamedTuple):
    """One aspect of a caption: how much is right, how much it claims, how much there is."""

    right: int = 0
    claimed: int = 0
    true: int = 0

    def __add__(self, other: Verdict) -> Verdict:    # type: ignore[override]
        return Verdict(*(a + b for a, b in zip(self, other, strict=True)))


def read_caption(text: str) -> CaptionReading:
    """Read a caption, a true one or what a model wrote."""
    text = text.lower()
    reading = CaptionReading(words=len(re.findall(r'\w+', text)))
    for found in MENTION.finditer(text):
        words = {_ATTRIBUTES[word]: word for word in found['attributes'].split()}
        head = _HEADS[found['head']]
        noun = Noun(shape=None if head == 'thing' else head, **words)
        reading.mentions.append(
            Mention(noun, _COUNTS.get(found['determiner'] or ''), found['place']))
        reading.partial |= found['determiner'] == MORE
    rest = MENTION.sub(' ', text)
    reading.stuff = set(_STUFF.findall(rest))
    rest = _JOINTS.sub(' ', _STUFF.sub(' ', rest))
    reading.unread = len(re.findall(r'\w+', rest))
    return reading


def judge_caption(reading: CaptionReading, scene: Scene) -> dict[str, Verdict]:
    """Compare a caption with its scene.

    Objects are matched one to one: a caption that names one circle twice claims two. Of counts
    the unit is the shape: its number is right where all that the caption says of it adds up to
    what the scene has; mentions with a place alone, and captions that end in "more things", say
    nothing of how many there are. Of places
    the unit is the thing that is in a place which has a name.

    Args:
        reading: From :func:`read_caption`.
        scene: The scene.

    Returns:
        A verdict per aspect of ``ASPECTS``.
    """
    named = [m for m in reading.mentions if m.noun.shape and m.count != 0]
    claimed = [(m.noun, m.place) for m in named for _ in range(m.count or 1)]
    things = len(scene.things)
    bare = {
        'objects': [noun for noun, _ in claimed],
        'colours': [Noun(n.shape, n.colour) for n, _ in claimed if n.colour],
        'shapes': [Noun(n.shape) for n, _ in claimed]}
    verdicts = {}
    for aspect, nouns in bare.items():
        right = _matched([_fits(noun, scene) for noun in nouns])
        verdicts[aspect] = Verdict(right, len(nouns), things)
    stuff = set(scene.stuff_areas)
    verdicts['stuff'] = Verdict(len(reading.stuff & stuff), len(reading.stuff), len(stuff))
    verdicts['counts'] = _judge_counts(reading, scene)
    places = [place_of(scene, k) for k in range(things)]
    placed = [(noun, place) for noun, place in claimed if place]
    fits = [[fit and place == at for fit, at in zip(_fits(noun, scene), places, strict=True)]
            for noun, place in placed]
    verdicts['places'] = Verdict(_matched(fits), len(placed), sum(p is not None for p in places))
    return {aspect: verdicts[aspect] for aspect in ASPECTS}


def _fits(noun: Noun, scene: Scene) -> list[bool]:
    return [noun.matches(thing) for thing in scene.things]


def _matched(fits: list[list[bool]]) -> int:
    """Count the most claims that can each have a thing of their own."""
    if not fits:
        return 0
    table = np.array(fits)
    rows, columns = linear_sum_assignment(table, maximize=True)
    return int(table[rows, columns].sum())


def _judge_counts(reading: CaptionReading, scene: Scene) -> Verdict:
    said: dict[str | None, int] = defaultdict(int)
    counted: set[str | None] = set()
    for mention in reading.mentions:
        shape = mention.noun.shape
        if mention.count is None:
            continue
        if mention.count == 0 and mention.noun != Noun(shape):
            continue    # "no red circle" says nothing of circles
        said[shape] += mention.count
        if not mention.place and not reading.partial:
            counted.add(shape)
    true: dict[str | None, int] = defaultdict(int)
    for thing in scene.things:
        true[thing.shape] += 1
    # A number of all things, "five things", is one more where it is said.
    shapes: set[str | None] = set(true)
    if None in counted:
        true[None] = len(scene.things)
        shapes.add(None)
    right = sum(said[shape] == true.get(shape, 0) for shape in counted)
    # "No star" can be right where there is none: then it is one more to be right about.
    return Verdict(right, len(counted), len(shapes | counted))
