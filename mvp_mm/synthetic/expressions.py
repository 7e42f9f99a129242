# Copyright (c) mvp_mm authors. All rights reserved.
"""A small language of referring expressions, and what each one means in a scene.

Meaning has two readings. The *sure* things satisfy an expression by a clear margin; the
*possible* things are all that somebody might accept. An expression is unambiguous when the two
agree. Nothing here draws at random: sentences are made in ``referring.py`` and judged here.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from mvp_mm.synthetic.scene import Scene, Thing
from mvp_mm.synthetic.vocabulary import (
    COLOURS,
    SIZES,
    STUFF_CLASSES,
    TEXTURES,
    THING_CLASSES,
    plural,
)

MARGIN = 6  # pixels between centres (or extents) before one thing is clearly ahead of another
AREA_RATIO = 1.3  # and how much larger it must look to be clearly larger
NEAR, NOT_NEAR = 6, 20  # gap between boxes, in pixels, that is surely / surely not "next to"

SIDES = ('left', 'right', 'top', 'bottom')
RELATIONS = {'left of': 'left', 'right of': 'right', 'above': 'top', 'below': 'bottom'}
NEXT_TO = 'next to'


@dataclass(frozen=True)
class Noun:
    """A noun phrase without article: any subset of the four attributes."""

    shape: str | None = None
    colour: str | None = None
    size: str | None = None
    texture: str | None = None

    def __post_init__(self) -> None:
        for word, words in ((self.shape, THING_CLASSES), (self.colour, COLOURS),
                            (self.size, SIZES), (self.texture, TEXTURES)):
            if word is not None and word not in words:
                raise ValueError(f'unknown word {word!r} in a noun; known: {words}')

    def matches(self, thing: Thing) -> bool:
        """Whether the noun is true of a thing."""
        return (self.shape in (None, thing.shape) and self.colour in (None, thing.colour)
                and self.size in (None, thing.size) and self.texture in (None, thing.texture))

    def text(self, many: bool = False) -> str:
        """Words of the noun, such as "small striped red circle"."""
        head = self.shape or 'thing'
        words = (self.size, self.texture, self.colour, plural(head) if many else head)
        return ' '.join(word for word in words if word)


@dataclass(frozen=True)
class Expression:
    """One referring expression.

    Attributes:
        kind: One of ``KINDS``.
        noun: What is looked for.
        word: Where to look: a side or "largest"/"smallest" (extreme), a side (ordinal), a key of
            ``RELATIONS`` or "next to" (relation), a stuff class (on_stuff).
        rank: Place in the order (ordinal), or how many of the first ones (extreme).
        anchor: The thing a relation starts from.
    """

    kind: str
    noun: Noun
    word: str = ''
    rank: int = 1
    anchor: Noun | None = None


class Reading(NamedTuple):
    """Indices of the things that surely, and that possibly, satisfy an expression."""

    sure: frozenset[int]
    possible: frozenset[int]

    @property
    def clear(self) -> bool:
        """Return whether every object that may be meant is surely meant."""
        return self.sure == self.possible


class SceneView:
    """What the checker sees of a scene: boxes, sizes and orders, computed once.

    Args:
        scene: The scene to judge expressions against.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.count = len(scene.things)
        self._named: dict[Noun, list[int]] = {}

    @cached_property
    def ahead(self) -> dict[str, list[list[bool]]]:
        """Per order word ``[a][b]``: is thing a clearly before thing b in that order?"""
        spans = {'x': [(box[0], box[2]) for box in self.scene.boxes],
                 'y': [(box[1], box[3]) for box in self.scene.boxes]}
        tables = {'left': self._table(lambda a, b: _clearly_before(spans['x'][a], spans['x'][b])),
                  'top': self._table(lambda a, b: _clearly_before(spans['y'][a], spans['y'][b])),
                  'largest': self._table(self._clearly_larger)}
        for word, reverse in (('right', 'left'), ('bottom', 'top'), ('smallest', 'largest')):
            tables[word] = [list(row) for row in zip(*tables[reverse], strict=True)]
        return tables

    def _table(self, rule) -> list[list[bool]]:
        return [[a != b and rule(a, b) for b in range(self.count)] for a in range(self.count)]

    def _clearly_larger(self, a: int, b: int) -> bool:
        things, areas = self.scene.things, self.scene.areas
        return (things[a].extent >= things[b].extent + MARGIN
                and areas[a] >= AREA_RATIO * areas[b])

    def gap(self, a: int, b: int) -> float:
        """Distance between two visible boxes in pixels, 0 where they meet."""
        p, q = self.scene.boxes[a], self.scene.boxes[b]
        dx = max(q[0] - p[2], p[0] - q[2], 0)
        dy = max(q[1] - p[3], p[1] - q[3], 0)
        return (dx * dx + dy * dy) ** 0.5

    def named(self, noun: Noun) -> list[int]:
        """Indices of the things a noun is true of."""
        if noun not in self._named:
            self._named[noun] = [k for k, thing in enumerate(self.scene.things)
                                 if noun.matches(thing)]
        return self._named[noun]

    def read(self, expression: Expression) -> Reading:
        """Both readings of an expression."""
        candidates = self.named(expression.noun)
        if expression.kind == 'attribute':
            return Reading(frozenset(candidates), frozenset(candidates))
        judge = {'extreme': self._extreme, 'ordinal': self._ordinal,
                 'on_stuff': self._on_stuff, 'relation': self._relation}.get(expression.kind)
        if judge is None:
            raise ValueError(f'unknown kind of expression {expression.kind!r}')
        verdicts = judge(expression, candidates)
        return Reading(frozenset(k for k, sure, _ in verdicts if sure),
                       frozenset(k for k, _, possible in verdicts if possible))

    def _places(self, word: str, candidates: list[int]) -> list[tuple[int, int, int]]:
        """Per candidate: its index and the lowest and highest place (from 0) it can take."""
        ahead = self.ahead[word]
        return [(k, sum(ahead[u][k] for u in candidates),
                 sum(u != k and not ahead[k][u] for u in candidates)) for k in candidates]

    def _extreme(self, expression: Expression, candidates: list[int]):
        """The first ``rank`` in an order."""
        return [(k, last < expression.rank, first < expression.rank)
                for k, first, last in self._places(expression.word, candidates)]

    def _ordinal(self, expression: Expression, candidates: list[int]):
        """The one at place ``rank`` in an order."""
        place = expression.rank - 1
        return [(k, first == last == place, first <= place <= last)
                for k, first, last in self._places(expression.word, candidates)]

    def _on_stuff(self, expression: Expression, candidates: list[int]):
        """Things whose centre and most of whose area lie on a stuff kind, and not on a thing."""
        stuff = STUFF_CLASSES.index(expression.word)
        verdicts = []
        for k in candidates:
            x, y = self.scene.centres[k]
            share = self.scene.stuff_share[k][stuff]
            centred = self.scene.ground[int(y), int(x)] == stuff
            surrounded = self.scene.stuff_around[k][stuff] >= 0.6
            verdicts.append((k, centred and share >= 0.75 and surrounded,
                             centred or share >= 0.25))
        return verdicts

    def _relation(self, expression: Expression, candidates: list[int]):
        """Things beside the one thing that the anchor names."""
        anchors = self.named(expression.anchor)
        if len(anchors) != 1:
            return [(k, False, bool(anchors)) for k in candidates]
        (anchor,) = anchors
        others = [k for k in candidates if k != anchor]
        if expression.word == NEXT_TO:
            gaps = [(k, self.gap(k, anchor)) for k in others]
            return [(k, gap <= NEAR, gap < NOT_NEAR) for k, gap in gaps]
        side = RELATIONS[expression.word]
        ahead = self.ahead[side]
        verdicts = []
        for k in others:
            (x0, y0), (x1, y1) = self.scene.centres[k], self.scene.centres[anchor]
            along, across = abs(x0 - x1), abs(y0 - y1)
            if side in ('top', 'bottom'):
                along, across = across, along
            mainly = along >= 0.5 * across
            verdicts.append((k, ahead[k][anchor] and mainly, not ahead[anchor][k]))
        return verdicts


def _clearly_before(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether span ``a`` lies before span ``b`` by its centre and by both of its ends."""
    return sum(a) / 2 + MARGIN <= sum(b) / 2 and a[0] < b[0] and a[1] < b[1]


def read_all(view: SceneView, parts: tuple[Expression, ...]) -> Reading:
    """Reading of several expressions joined by "and": the union.

    A part that names nothing, or a thing another part names too, leaves the whole unclear.
    """
    readings = [view.read(part) for part in parts]
    sure = frozenset().union(*(r.sure for r in readings))
    possible = frozenset().union(*(r.possible for r in readings))
    overlapping = sum(len(r.sure) for r in readings) != len(sure)
    if len(parts) > 1 and (overlapping or not all(r.sure for r in readings)):
        return Reading(frozenset(), possible | frozenset({-1}))
    return Reading(sure, possible)


def with_noun(expression: Expression, **words: str | None) -> Expression:
    """The same expression about another noun."""
    return replace(expression, noun=replace(expression.noun, **words))
