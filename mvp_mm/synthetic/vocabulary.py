# Copyright (c) mvp_mm authors. All rights reserved.
"""Defines the words and numbers of the synthetic world."""
from __future__ import annotations

THING_CLASSES = ('circle', 'square', 'triangle', 'star', 'cross', 'heart')
STUFF_CLASSES = ('grass', 'water', 'sand', 'brick', 'snow')
SIZES = ('small', 'large')
TEXTURES = ('plain', 'striped', 'dotted')

# RGB. Saturated, so that things stand out from the muted ground.
COLOUR_RGB = {
    'red': (220, 28, 36),
    'green': (16, 160, 56),
    'blue': (30, 76, 224),
    'yellow': (250, 226, 24),
    'purple': (138, 36, 178),
    'orange': (255, 128, 0),
}
COLOURS = tuple(COLOUR_RGB)

# With gaps, as in COCO: a reader that takes ids for indices fails at once.
THING_IDS = dict(zip(THING_CLASSES, (1, 3, 4, 7, 9, 12), strict=True))
STUFF_IDS = dict(zip(STUFF_CLASSES, (21, 23, 24, 28, 31), strict=True))

# Extents (longer side of the unrotated shape) in pixels.
EXTENTS = {'small': (16, 24), 'large': (30, 44)}
LONG_SIDE = 128
SHORT_SIDES = (112, 128)

SPLITS = ('train', 'val')
# Fixed offsets: an image keeps its id whatever the number of images in the other split.
IMAGE_ID_OFFSET = {'train': 0, 'val': 500_000}
MAX_IMAGES = 500_000

KINDS = ('attribute', 'extreme', 'on_stuff', 'ordinal', 'relation')
HARD_KINDS = ('ordinal', 'relation')

CAPTIONERS = ('lister', 'counter', 'locator', 'summariser')

NUMBER_WORDS = ('no', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine',
                'ten')


def plural(noun: str) -> str:
    """Plural of a class name or of "thing"."""
    return noun + ('es' if noun.endswith('s') else 's')


def join_words(words: list[str]) -> str:
    """Join as in "a, b and c"."""
    if len(words) < 2:
        return ''.join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
