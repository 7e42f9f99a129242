# Copyright (c) mvp_mm authors. All rights reserved.
"""Reads files of references: the REFER toolkit's pickles and gRefCOCO's JSON."""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mvp_mm.utils.faults import Faults
from mvp_mm.utils.files import load_json, load_plain_pickle
from mvp_mm.utils.records import ID, ID_OR_TEXT, TEXT, RecordFormat

SPLIT = RecordFormat('reference', ident='ref_id', ref_id=ID_OR_TEXT, image_id=ID, split=TEXT)
_TRAINING = 'train'


def load_references(path: str | Path) -> list[dict[str, Any]]:
    """Read ``refs(*).p`` or ``grefs(*).json``.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it holds no list, or is no JSON where it is called ``.json`` and no pickle
            of plain data otherwise.
    """
    if Path(path).suffix == '.json':
        return load_json(path, list)
    refs = load_plain_pickle(path)
    if not isinstance(refs, list):
        raise ValueError(f'{path}: expected a list of references, got {type(refs).__name__}')
    return refs


def split_images(path: str | Path) -> dict[str, set[int]]:
    """Image ids of each split of a file of references.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is broken.
    """
    images: dict[str, set[int]] = defaultdict(set)
    faults = Faults(path)
    for place, ref in enumerate(load_references(path)):
        SPLIT.accepts(ref, faults, place)
        images[ref['split']].add(ref['image_id'])
    return images


def held_out_images(splits: dict[str, set[int]]) -> set[int]:
    """Image ids of all splits but the training split."""
    return set().union(*(ids for split, ids in splits.items() if split != _TRAINING))


def all_held_out(paths: Iterable[str | Path]) -> set[int]:
    """Image ids that files of references use outside their training split."""
    return set().union(*(held_out_images(split_images(path)) for path in paths))
