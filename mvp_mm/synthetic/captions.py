# Copyright (c) mvp_mm authors. All rights reserved.
"""Writes captions that are true of a scene, in several styles, and plants bad ones."""
from __future__ import annotations

from collections import Counter
from random import Random

from mvp_mm.synthetic.expressions import Noun
from mvp_mm.synthetic.scene import Scene
from mvp_mm.synthetic.vocabulary import CAPTIONERS, COLOURS, NUMBER_WORDS, THING_CLASSES, join_words

MAX_GROUPS = 7
# Share of the captions of the store that are spoiled on purpose, by what is wrong with them.
PLANTED_SHARES = {'hedging': 0.06, 'empty': 0.02, 'repetitive': 0.02}
HEDGED_SENTENCES = (
    'there might be another {noun} behind it',
    'it may be a game',
    'the scene possibly shows a playground',
    'it seems to be a sunny day',
    'the {colour} colour indicates a warning',
    'this suggests that somebody put the {noun} there',
    'it appears to be a child\'s drawing',
    'perhaps the {noun} is moving',
    'the arrangement implies a pattern',
    'there may be a {noun} outside the picture',
)
# The part of the frame, from its left or upper edge, within which a place word is safe to use.
OUTER, INNER = 0.36, (0.43, 0.57)
# All that :func:`place_of` says; longer ones first, for who looks for them in a text.
PLACES = ('at the top left', 'at the top right', 'at the bottom left', 'at the bottom right',
          'at the top', 'at the bottom', 'on the left', 'on the right', 'in the middle')
MOSTLY, MORE = 'mostly', 'more'


def number_phrase(noun: Noun, count: int) -> tuple[str, int]:
    """A noun with its article or number.

    Returns:
        The phrase, and where the noun itself starts in it.
    """
    words = noun.text(many=count > 1)
    article = 'an' if words[0] in 'aeiou' else 'a'
    determiner = article if count == 1 else NUMBER_WORDS[count]
    return f'{determiner} {words}', len(determiner) + 1


def ground_phrase(scene: Scene) -> str:
    """The stuff kinds of a scene, most visible first, as in "grass and sand"."""
    areas = scene.stuff_areas
    return join_words(sorted(areas, key=lambda name: -areas[name]))


def place_of(scene: Scene, k: int) -> str | None:
    """Place words for a thing, None where its place is not clear."""
    x, y = scene.centres[k][0] / scene.width, scene.centres[k][1] / scene.height
    across = 'left' if x < OUTER else 'right' if x > 1 - OUTER else None
    down = 'top' if y < OUTER else 'bottom' if y > 1 - OUTER else None
    centred_x, centred_y = INNER[0] < x < INNER[1], INNER[0] < y < INNER[1]
    if across and down:
        return f'at the {down} {across}'
    if across and centred_y:
        return f'on the {across}'
    if down and centred_x:
        return f'at the {down}'
    return 'in the middle' if centred_x and centred_y else None


def _reading_order(scene: Scene) -> list[int]:
    """Things from left to right."""
    return sorted(range(len(scene.things)), key=lambda k: scene.centres[k])


def _grouped(scene: Scene, *attributes: str) -> list[tuple[Noun, list[int]]]:
    """Things that share the attributes, in the order of their leftmost member."""
    groups: dict[Noun, list[int]] = {}
    for k in _reading_order(scene):
        noun = Noun(**{name: getattr(scene.things[k], name) for name in attributes})
        groups.setdefault(noun, []).append(k)
    return list(groups.items())


def list_caption(scene: Scene) -> str:
    """Things with their colours: "a red circle, two blue stars on grass and sand"."""
    phrases = [number_phrase(noun, len(members))[0]
               for noun, members in _grouped(scene, 'colour', 'shape')]
    if len(phrases) > MAX_GROUPS:
        phrases = [*phrases[:MAX_GROUPS - 1], f'{MORE} things']
    return f'{join_words(phrases)} on {ground_phrase(scene)}'


def count_caption(scene: Scene) -> str:
    """Counts per shape: "there are two circles and one star"."""
    counts = [(noun.text(len(members) > 1), len(members))
              for noun, members in _grouped(scene, 'shape')]
    verb = 'is' if counts[0][1] == 1 else 'are'
    phrases = [f'{NUMBER_WORDS[count]} {name}' for name, count in counts]
    return f'there {verb} {join_words(phrases)}'


def place_caption(scene: Scene, rng: Random) -> str:
    """Where up to four things are: "a red circle at the top left, a star in the middle"."""
    placed = [(k, place_of(scene, k)) for k in _reading_order(scene)]
    placed = [(k, place) for k, place in placed if place]
    chosen = sorted(rng.sample(placed, min(4, len(placed))), key=placed.index)
    phrases = []
    for k, place in chosen:
        thing = scene.things[k]
        noun = Noun(shape=thing.shape, colour=thing.colour)
        phrases.append(f'{number_phrase(noun, 1)[0]} {place}')
    return join_words(phrases) if phrases else list_caption(scene)


def summary_caption(scene: Scene) -> str:
    """Short: "five things, mostly circles, on grass"."""
    (shape, most), = Counter(thing.shape for thing in scene.things).most_common(1)
    total = len(scene.things)
    if most == total:
        return f'{NUMBER_WORDS[total]} {Noun(shape=shape).text(True)} on {ground_phrase(scene)}'
    aside = f', {MOSTLY} {Noun(shape=shape).text(True)},' if most * 2 > total else ''
    return f'{NUMBER_WORDS[total]} things{aside} on {ground_phrase(scene)}'


def full_caption(scene: Scene, rng: Random) -> str:
    """Size, colour and shape of everything; in half of them also where single things are."""
    with_places = rng.random() < 0.5
    phrases = []
    for noun, members in _grouped(scene, 'size', 'colour', 'shape'):
        phrase, _ = number_phrase(noun, len(members))
        place = place_of(scene, members[0]) if len(members) == 1 and with_places else None
        phrases.append(f'{phrase} {place}' if place else phrase)
    return f'{join_words(phrases)} on {ground_phrase(scene)}'


def grounded_caption(scene: Scene, rng: Random) -> tuple[str, list[tuple[int, int, list[int]]]]:
    """A caption whose phrases each name all, and only, the things grounded to them.

    Returns:
        The caption and per phrase ``(start, end, indices of its things)``: characters of the
        noun with its attributes, without article or number.
    """
    left = _reading_order(scene)
    pieces: list[tuple[str, int, list[int]]] = []
    while left:
        thing = scene.things[left[0]]
        words = {name: getattr(thing, name) for name in ('colour', 'size', 'texture')
                 if rng.random() < 0.45}
        exact = Noun(thing.shape, thing.colour, thing.size, thing.texture)
        for noun in (Noun(thing.shape, **words), exact):
            members = [k for k, other in enumerate(scene.things) if noun.matches(other)]
            if set(members) <= set(left):
                break
        pieces.append((*number_phrase(noun, len(members)), members))
        left = [k for k in left if k not in members]
    caption, spans = '', []
    for index, (phrase, offset, members) in enumerate(pieces):
        if index:
            caption += ' and ' if index == len(pieces) - 1 else ', '
        spans.append((len(caption) + offset, len(caption) + len(phrase), members))
        caption += phrase
    return f'{caption} on {ground_phrase(scene)}', spans


def _spoil(fault: str, caption: str, scene: Scene, rng: Random) -> str:
    """A bad version of a caption."""
    if fault == 'empty':
        return ''
    if fault == 'repetitive':
        word = rng.choice((*COLOURS, *THING_CLASSES))
        return ' '.join([word] * rng.randint(10, 20))
    thing = rng.choice(scene.things)
    hedge = rng.choice(HEDGED_SENTENCES).format(noun=thing.shape, colour=thing.colour)
    return f'{caption}. {hedge}' if rng.random() < 0.7 else hedge


def caption_store_entry(scene: Scene, rng: Random) -> tuple[list[str], dict[str, str]]:
    """One caption per captioner, some of them spoiled.

    Returns:
        The captions in the order of ``CAPTIONERS`` and the faults by index, such as
        ``{"2": "hedging"}``.
    """
    captions = [list_caption(scene), count_caption(scene), place_caption(scene, rng),
                summary_caption(scene)]
    faults = {}
    names = [*PLANTED_SHARES, None]
    weights = [*PLANTED_SHARES.values(), 1 - sum(PLANTED_SHARES.values())]
    for index in range(len(CAPTIONERS)):
        fault = rng.choices(names, weights)[0]
        if fault:
            faults[str(index)] = fault
            captions[index] = _spoil(fault, captions[index], scene, rng)
    return captions, faults
