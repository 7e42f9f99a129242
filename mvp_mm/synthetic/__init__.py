# Copyright (c) mvp_mm authors. All rights reserved.
"""A deterministic world of coloured shapes, written in the layouts of the real datasets."""
from __future__ import annotations

from mvp_mm.synthetic.expressions import Expression, Noun, Reading, SceneView, read_all
from mvp_mm.synthetic.referring import Sentence, sample_groups, sample_references
from mvp_mm.synthetic.render import render_scene
from mvp_mm.synthetic.scene import Scene, Thing, sample_scene
from mvp_mm.synthetic.vocabulary import (
    CAPTIONERS,
    COLOURS,
    KINDS,
    SIZES,
    STUFF_CLASSES,
    STUFF_IDS,
    TEXTURES,
    THING_CLASSES,
    THING_IDS,
)
from mvp_mm.synthetic.world import WorldParameters, make_world

__all__ = [
    'CAPTIONERS', 'COLOURS', 'KINDS', 'SIZES', 'STUFF_CLASSES', 'STUFF_IDS', 'TEXTURES',
    'THING_CLASSES', 'THING_IDS', 'Expression', 'Noun', 'Reading', 'Scene', 'SceneView',
    'Sentence', 'Thing', 'WorldParameters', 'make_world', 'read_all', 'render_scene',
    'sample_groups', 'sample_references', 'sample_scene',
]
