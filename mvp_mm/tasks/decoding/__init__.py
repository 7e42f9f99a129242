# Copyright (c) mvp_mm authors. All rights reserved.
"""From the network's raw outputs to answers in the original image's frame.

Pure functions shared by the tasks. Letters: Q queries, K phrases, n answers, (h, w) the original
image, (H, W) the padded canvas. The canvas holds the resized image at its top left corner.
"""
from __future__ import annotations

from mvp_mm.tasks.decoding.bands import rescale_mask_logits
from mvp_mm.tasks.decoding.frames import rescale_boxes
from mvp_mm.tasks.decoding.panoptic import decode_panoptic
from mvp_mm.tasks.decoding.sentences import (
    decode_candidates,
    decode_generalized,
    decode_referring,
    sentence_presence,
)
from mvp_mm.tasks.decoding.words import (
    decode_instances,
    decode_phrases,
    decode_semantic,
    thing_flags,
    word_probabilities,
)

__all__ = [
    'decode_candidates', 'decode_generalized', 'decode_instances', 'decode_panoptic',
    'decode_phrases', 'decode_referring', 'decode_semantic', 'rescale_boxes',
    'rescale_mask_logits', 'sentence_presence', 'thing_flags', 'word_probabilities'
]
