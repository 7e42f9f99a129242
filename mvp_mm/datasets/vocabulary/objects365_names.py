# Copyright (c) mvp_mm authors. All rights reserved.
"""Corrects the spelling of Objects365's class names."""
from __future__ import annotations

# Name in the published file, without outer spaces: name, what was wrong.
NAME_FIXES: dict[str, tuple[str, str]] = {
    'Moniter/TV': ('monitor/tv', 'typo'),
    'Trash bin Can': ('trash bin/can', 'two names without the slash that the others have'),
    'Bakset': ('basket', 'typo'),
    'Ballon': ('balloon', 'typo'),
    'Dinning Table': ('dining table', 'typo'),
    'Tea pot': ('teapot', 'one word'),
    'Head Phone': ('headphone', 'one word'),
    'Billards': ('billiards', 'typo'),
    'Extention Cord': ('extension cord', 'typo'),
    'Hotair ballon': ('hot air balloon', 'typo'),
    'Hamimelon': ('hami melon', 'two words'),
    'Mushroon': ('mushroom', 'typo'),
    'Tape Measur/ Ruler': ('tape measure/ruler', 'typo, stray space'),
    'Tape Measure/ Ruler': ('tape measure/ruler', 'stray space'),
    'Campel': ('camel', 'typo'),
    'Meat ball': ('meatball', 'one word'),
    'Buttefly': ('butterfly', 'typo'),
    'Noddles': ('noodles', 'typo'),
    'Table Teniis paddle': ('table tennis paddle', 'typo'),
}


def tidy_name(name: str) -> str:
    """A published class name in lower case, without stray spaces and known mistakes."""
    name = ' '.join(name.split())
    return NAME_FIXES[name][0] if name in NAME_FIXES else name.lower()
