# Copyright (c) mvp_mm authors. All rights reserved.
"""Write captions with errors of a known kind and rate, for one scene or a whole world."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from re import Match

from mvp_mm.synthetic.caption_reading import MENTION
from mvp_mm.synthetic.captions import list_caption, number_phrase
from mvp_mm.synthetic.expressions import Noun
from mvp_mm.synthetic.known_scenes import KnownScenes
from mvp_mm.synthetic.scene import Scene
from mvp_mm.synthetic.vocabulary import COLOURS, THING_CLASSES

ERRORS = ('swapped', 'negated', 'invented')


def wrong_caption(scene: Scene, error: str, rate: float, rng: Random) -> str:
    """Write the caption that lists all things, with errors.

    Args:
        scene: The scene.
        error: ``'swapped'`` gives objects another colour or shape, such as no thing has;
            ``'negated'`` says that there are none of them; ``'invented'`` adds objects that are
            not there, one behind a true one.
        rate: Share of the mentions that get an error, in [0, 1].
        rng: Draws them.

    Raises:
        ValueError: If there is no such error, or the rate is no share.
    """
    if error not in ERRORS:
        raise ValueError(f'an error is one of {ERRORS}, got {error!r}')
    if not 0 <= rate <= 1:
        raise ValueError(f'a rate is in [0, 1], got {rate}')
    absent = [noun for noun in _nouns() if not any(map(noun.matches, scene.things))]

    def spoiled(mention: Match[str]) -> str:
        if rng.random() >= rate or mention['head'].startswith('thing'):
            return mention[0]
        if error == 'negated':
            return ' '.join(filter(None, ['no', mention['attributes'].strip(), mention['head']]))
        wrong = number_phrase(rng.choice(absent), 1)[0]
        return wrong if error == 'swapped' else f'{mention[0]}, {wrong}'

    caption = list_caption(scene)
    things, ground = caption.rsplit(' on ', 1)
    return f'{MENTION.sub(spoiled, things)} on {ground}'


def shuffled_captions(scenes: KnownScenes, numbers: Sequence[int], seed: int) -> dict[int, str]:
    """Give each image the true caption of another one.

    Args:
        scenes: The scenes of the world.
        numbers: The images, two at least.
        seed: Seed of the order.

    Returns:
        The captions by image.

    Raises:
        ValueError: If there is one image alone.
    """
    order = list(numbers)
    if len(order) < 2:
        raise ValueError('captions are shuffled among images, two at least')
    Random(seed).shuffle(order)
    # Each image gets the caption of the next one in a random order, never its own.
    return {number: list_caption(scenes[after])
            for number, after in zip(order, [*order[1:], order[0]], strict=True)}


def wrong_captions(scenes: KnownScenes, numbers: Sequence[int], error: str, rate: float,
                   seed: int) -> dict[int, str]:
    """Write one wrong caption for each image; which mentions are wrong depends on seed and image.

    Args:
        scenes: The scenes of the world.
        numbers: The images.
        error: An error of :func:`wrong_caption`, or ``'shuffled'`` for the captions of other
            images, which needs a rate of 1.
        rate: Share of the mentions that get an error, in [0, 1].
        seed: Seed.

    Returns:
        The captions by image.

    Raises:
        ValueError: As :func:`wrong_caption` and :func:`shuffled_captions`.
    """
    if error == 'shuffled':
        if rate != 1:
            raise ValueError(f"'shuffled' captions are all of other images: rate 1, got {rate}")
        return shuffled_captions(scenes, numbers, seed)
    return {number: wrong_caption(scenes[number], error, rate, Random(f'{seed}/{number}'))
            for number in numbers}


def _nouns() -> Iterator[Noun]:
    for shape in THING_CLASSES:
        for colour in COLOURS:
            yield Noun(shape, colour)
