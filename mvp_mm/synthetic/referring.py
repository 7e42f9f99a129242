# Copyright (c) mvp_mm authors. All rights reserved.
"""Samples referring expressions that are true, unambiguous and exact in a scene."""
from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from random import Random

from mvp_mm.synthetic.expressions import (
    NEXT_TO,
    RELATIONS,
    SIDES,
    Expression,
    Noun,
    SceneView,
    read_all,
    with_noun,
)
from mvp_mm.synthetic.scene import Scene, Thing
from mvp_mm.synthetic.vocabulary import (
    COLOURS,
    KINDS,
    SIZES,
    STUFF_CLASSES,
    TEXTURES,
    THING_CLASSES,
)
from mvp_mm.synthetic.wording import ORDINALS, phrase

KIND_WEIGHTS = {'attribute': 20, 'extreme': 17, 'on_stuff': 13, 'ordinal': 22, 'relation': 28}
MAX_SENTENCES = 10
MAX_TOKENS = 15
GROUPS_PER_IMAGE = 4
GROUP_WEIGHTS = {'none': 30, 'one': 30, 'many': 40}


@dataclass(frozen=True)
class Sentence:
    """A sentence and the things it refers to.

    Attributes:
        text: Lower case, no punctuation.
        kind: One of ``KINDS``.
        targets: Indices of the scene's things; empty where nothing is meant.
        parts: The structured form that the checker reads.
    """

    text: str
    kind: str
    targets: frozenset[int]
    parts: tuple[Expression, ...]


def _nouns_of(thing: Thing) -> list[Noun]:
    """Every noun that is true of a thing."""
    return [Noun(*words) for words in product((thing.shape, None), (thing.colour, None),
                                              (thing.size, None), (thing.texture, None))]


class ExpressionSampler:
    """Draws expressions for one scene; the checker has the last word on each.

    Args:
        scene: The scene to talk about.
        rng: Source of every choice.
    """

    def __init__(self, scene: Scene, rng: Random) -> None:
        self.scene = scene
        self.view = SceneView(scene)
        self.rng = rng
        self.said: set[tuple[Expression, ...]] = set()
        self._unique_nouns: dict[int, list[Noun]] = {}

    def noun_of(self, thing: Thing) -> Noun:
        """A noun that is true of a thing, mostly with few words."""
        rng = self.rng
        return Noun(shape=thing.shape if rng.random() < 0.8 else None,
                    colour=thing.colour if rng.random() < 0.45 else None,
                    size=thing.size if rng.random() < 0.2 else None,
                    texture=thing.texture if rng.random() < 0.2 else None)

    def unique_noun_of(self, k: int) -> Noun | None:
        """A short noun that names thing ``k`` alone; None where attributes do not suffice."""
        if k not in self._unique_nouns:
            self._unique_nouns[k] = [noun for noun in _nouns_of(self.scene.things[k])
                                     if self.view.named(noun) == [k]]
        nouns = self._unique_nouns[k]
        if not nouns:
            return None
        return min(nouns, key=lambda noun: noun.text().count(' ') + (noun.shape is None)
                   + 1.5 * self.rng.random())

    def propose(self, kind: str, k: int) -> Expression | None:
        """An expression of a kind that might refer to thing ``k``; not checked."""
        rng, thing = self.rng, self.scene.things[k]
        if kind == 'attribute':
            noun = self.unique_noun_of(k)
            return None if noun is None else Expression(kind, noun)
        noun = self.noun_of(thing)
        peers = self.view.named(noun)
        if kind == 'on_stuff':
            x, y = self.scene.centres[k]
            return Expression(kind, noun, STUFF_CLASSES[self.scene.ground[int(y), int(x)]])
        if kind == 'relation':
            others = [u for u in range(self.view.count) if u != k]
            anchor = self.unique_noun_of(rng.choice(others))
            word = rng.choice((*RELATIONS, NEXT_TO))
            return None if anchor is None else Expression(kind, noun, word, anchor=anchor)
        if len(peers) < 2:
            return None
        if kind == 'extreme':
            return self._superlative(noun)
        side = rng.choice(SIDES)
        ahead = self.view.ahead[side]
        rank = 1 + sum(ahead[u][k] for u in peers)
        if rank > len(ORDINALS) or (rank == 1 and rng.random() < 0.5):
            return None
        return Expression(kind, noun, side, rank)

    def _superlative(self, noun: Noun, rank: int = 1) -> Expression:
        """The first ``rank`` in some order; "the largest small circle" is avoided."""
        word = self.rng.choice((*SIDES, 'largest', 'smallest'))
        if word not in SIDES:
            noun = replace(noun, size=None)
        return Expression('extreme', noun, word, rank)

    def _worthwhile(self, expression: Expression) -> bool:
        """Relations and places should mostly be needed, not decorate a unique noun."""
        if expression.kind not in ('relation', 'on_stuff'):
            return True
        return len(self.view.named(expression.noun)) > 1 or self.rng.random() < 0.15

    def _about_itself(self, expression: Expression) -> bool:
        """Whether a relation asks for nothing but its own anchor: "the star left of the star"."""
        if expression.anchor is None:
            return False
        names = self.view.named(expression.noun)
        return (expression.noun == expression.anchor
                or bool(names) and names == self.view.named(expression.anchor))

    def keep(self, parts: tuple[Expression, ...], targets: frozenset[int]) -> Sentence | None:
        """The sentence, if it is new, clear, short enough and refers to exactly ``targets``."""
        if parts in self.said or any(map(self._about_itself, parts)):
            return None
        reading = read_all(self.view, parts)
        if not reading.clear or reading.sure != targets:
            return None
        count = len(targets) if len(parts) == 1 else 1
        text = ' and '.join(phrase(part, count, self.rng) for part in parts)
        if count == 1 and self.rng.random() < 0.15:
            text = text.replace('the ', '', 1)
        if len(text.split()) > MAX_TOKENS:
            return None
        self.said.add(parts)
        return Sentence(text, parts[-1].kind, targets, parts)

    def _kinds(self) -> list[str]:
        """All kinds in a random order that puts the heavy ones first."""
        weight = KIND_WEIGHTS
        return sorted(KINDS, key=lambda kind: -self.rng.random() ** (1 / weight[kind]))

    def single(self, k: int) -> Sentence | None:
        """A sentence about thing ``k`` alone."""
        for kind in self._kinds():
            for _ in range(1 if kind == 'attribute' else 12):
                expression = self.propose(kind, k)
                if expression is None or not self._worthwhile(expression):
                    continue
                sentence = self.keep((expression,), frozenset({k}))
                if sentence is not None:
                    return sentence
        return None

    def many(self) -> Sentence | None:
        """A sentence about two things or more."""
        rng = self.rng
        for _ in range(40):
            k = rng.randrange(self.view.count)
            parts = self._pair(k) if rng.random() < 0.25 else self._group(k)
            if not parts:
                continue
            targets = read_all(self.view, parts).sure
            sentence = self.keep(parts, targets) if len(targets) > 1 else None
            if sentence is not None:
                return sentence
        return None

    def _pair(self, k: int) -> tuple[Expression, ...]:
        """Two expressions about two different things."""
        other = self.rng.choice([u for u in range(self.view.count) if u != k])
        kind = self.rng.choices(KINDS, tuple(KIND_WEIGHTS.values()))[0]
        first, second = self.propose('attribute', k), self.propose(kind, other)
        return () if first is None or second is None else (first, second)

    def _group(self, k: int) -> tuple[Expression, ...]:
        """One plural expression that is likely to include thing ``k``."""
        rng = self.rng
        kind = rng.choices(('attribute', 'extreme', 'on_stuff', 'relation'), (18, 16, 14, 52))[0]
        noun = self.noun_of(self.scene.things[k])
        if kind == 'attribute':
            return (Expression(kind, noun),)
        if kind == 'extreme':
            peers = len(self.view.named(noun))
            if peers < 3:
                return ()
            return (self._superlative(noun, rng.randint(2, min(peers - 1, 3))),)
        expression = self.propose(kind, k)
        return () if expression is None else (expression,)

    def none(self) -> Sentence | None:
        """A sentence that refers to nothing, but nearly does."""
        rng = self.rng
        for _ in range(60):
            k = rng.randrange(self.view.count)
            kind = rng.choices(KINDS, tuple(KIND_WEIGHTS.values()))[0]
            expression = self._missing(kind, k)
            if expression is None:
                continue
            sentence = self.keep((expression,), frozenset())
            if sentence is not None:
                return sentence
        return None

    def _missing(self, kind: str, k: int) -> Expression | None:
        """An expression about thing ``k`` with one word changed; not checked."""
        rng = self.rng
        if kind == 'ordinal':
            noun = Noun(shape=self.scene.things[k].shape)
            beyond = len(self.view.named(noun)) + 1
            if beyond > len(ORDINALS):
                return None
            return Expression(kind, noun, rng.choice(SIDES), beyond)
        if kind == 'attribute':
            expression = Expression(kind, self.noun_of(self.scene.things[k]))
        elif kind == 'extreme':
            expression = Expression(kind, self.noun_of(self.scene.things[k]), rng.choice(SIDES))
        else:
            expression = self.propose(kind, k)
        if expression is None:
            return None
        if kind == 'on_stuff' and rng.random() < 0.6:
            return Expression(kind, expression.noun, rng.choice(STUFF_CLASSES))
        if kind == 'relation' and rng.random() < 0.6:
            return expression  # its side was drawn blindly: often nothing lies there
        words = [('shape', THING_CLASSES), ('colour', COLOURS)]
        words += [(name, values) for name, values in (('size', SIZES), ('texture', TEXTURES))
                  if getattr(expression.noun, name)]
        name, values = rng.choice(words)
        return with_noun(expression, **{name: rng.choice(values)})


def sample_references(scene: Scene, rng: Random) -> list[tuple[int, list[Sentence]]]:
    """References for RefCOCO: things with one to three sentences each.

    Returns:
        Pairs of a thing's index and its sentences; at most ``MAX_SENTENCES`` sentences in all.
    """
    sampler = ExpressionSampler(scene, rng)
    references: list[tuple[int, list[Sentence]]] = []
    left = MAX_SENTENCES
    for k in rng.sample(range(len(scene.things)), len(scene.things)):
        wanted = min(left, rng.randint(1, 3))
        drawn = [sampler.single(k) for _ in range(wanted)]
        sentences = [sentence for sentence in drawn if sentence is not None]
        if sentences:
            references.append((k, sentences))
            left -= len(sentences)
        if not left:
            break
    return references


def sample_groups(scene: Scene, rng: Random) -> list[Sentence]:
    """Expressions for gRefCOCO: about four, with no, one or many targets."""
    sampler = ExpressionSampler(scene, rng)
    sentences = []
    for _ in range(GROUPS_PER_IMAGE):
        kind = rng.choices(tuple(GROUP_WEIGHTS), tuple(GROUP_WEIGHTS.values()))[0]
        if kind == 'one':
            sentence = sampler.single(rng.randrange(len(scene.things)))
        else:
            sentence = sampler.none() if kind == 'none' else sampler.many()
        if sentence is not None:
            sentences.append(sentence)
    return sentences

