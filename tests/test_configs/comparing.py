# Copyright (c) mvp_mm authors. All rights reserved.
"""Read shipped configs and compare them setting by setting."""
from __future__ import annotations

from mvp_mm.engine import load_config
from tests.helpers import ROOT

CONFIGS = ROOT / 'configs'
# The switches of our additions, as the paper has them: off.
DEFAULTS_OF_ADDITIONS = {
    'perception.similarity_head.relation': False,
    'perception.decoder.position_in_content': False,
    'perception.criterion.ranking_weight': 0.0,
    'perception.criterion.sentence_reduction': 'mean',
    'perception.criterion.positive_iou': None,
    'answering.same_iou': None,
    'answering.nms_iou': None,
}


def read(name):
    return load_config(CONFIGS / 'mvplm' / f'{name}.py')


def flatten(value, path=''):
    """Leaves of nested dicts by dotted path; lists are leaves."""
    if not isinstance(value, dict):
        return {path: value}
    found = {}
    for key, child in value.items():
        found.update(flatten(child, f'{path}.{key}' if path else str(key)))
    return found


def differing(one, other):
    missing = object()
    one, other = flatten(one), flatten(other)
    return {key for key in one.keys() | other.keys()
            if one.get(key, missing) != other.get(key, missing)}


def changes(cfg, base):
    """Leaves by dotted path where a config departs from another."""
    mine, theirs = flatten(cfg.to_dict()), flatten(base.to_dict())
    return {key: value for key, value in mine.items()
            if not key.startswith('_') and theirs.get(key, None) != value}
