# Copyright (c) mvp_mm authors. All rights reserved.
"""Looks up the captions of an image, beside any dataset."""
from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from mvp_mm.datasets.captions.index import INDEX_FORMAT, CaptionIndex, IndexWriter
from mvp_mm.datasets.captions.refine import CaptionRefiner
from mvp_mm.datasets.captions.sources import manifest_path, open_source
from mvp_mm.datasets.indexing.store import open_index, options_digest
from mvp_mm.utils.files import load_json


class CaptionStore:
    """Captions by image file name, cleaned when the store is first opened.

    Read in place: the folder that captioners write (:mod:`mvp_mm.datasets.captions.shards`), the
    JSONL file of the merging and the refining command, a JSON file ``{"captioners": [...],
    "captions": {file_name: [text, ...]}}``, and COCO's captions JSON (``images`` and
    ``annotations``).

    An index is made once, for each refiner, beside the store or where
    :func:`~mvp_mm.datasets.indexing.store.index_folder` says; later openings and other processes
    map it. It is made anew when a file has changed.

    Names agree where the folders that both give are the same: ``train/patch0/a.jpg`` finds
    ``patch0/a.jpg`` and not ``patch1/a.jpg``. COCO's 2014 and 2017 names of an image agree.

    Args:
        path: The file or folder.
        refiner: Cleans captions; by default :class:`CaptionRefiner` with its default bounds, and
            nothing where the refining command has cleaned the file already.
        index_dir: A folder for indices.

    Raises:
        FileNotFoundError: If there is nothing.
        ValueError: If the layout is another, a record is broken, or two images have one name.
    """

    def __init__(self, path: str, refiner: CaptionRefiner | None = None,
                 index_dir: str | None = None) -> None:
        self.path = str(path)
        source = Path(path)
        if not source.exists():
            raise FileNotFoundError(f'Captions {path} do not exist')
        chosen = _chosen(source, refiner)
        settings = chosen.settings if chosen else None
        self._folder, facts = open_index(
            source, f'captions-{options_digest(settings)}',
            dict(refiner=settings, format=INDEX_FORMAT),
            lambda folder: _build(source, chosen, folder), index_dir, lambda: _files(source))
        self._index = CaptionIndex(self._folder)
        self.captioners: list[str] = facts['captioners']
        print_log(_summary(source.name, facts), logger='current')

    def __len__(self) -> int:
        return len(self._index)

    def get(self, file_name: str) -> list[str]:
        """Captions of an image, none where the store does not know it.

        Raises:
            ValueError: If the name fits several images of the store.
        """
        number = self._find(file_name)
        return [] if number is None else self._index.texts(number)

    def has(self, file_name: str) -> bool:
        """Whether an image has a caption, which is not read; raises as :meth:`get` does."""
        number = self._find(file_name)
        return number is not None and self._index.captioned(number)

    def _find(self, file_name: str) -> int | None:
        try:
            return self._index.find(file_name)
        except ValueError as error:
            raise ValueError(f'{self.path}: {error}') from error

    def __getstate__(self) -> dict[str, Any]:
        """Another process maps the files instead of taking a copy."""
        return dict(self.__dict__, _index=None)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._index = CaptionIndex(self._folder)


def _chosen(path: Path, refiner: CaptionRefiner | None) -> CaptionRefiner | None:
    """The refiner that applies: the default one, unless the captions were cleaned before."""
    manifest = manifest_path(path)
    refined = load_json(manifest).get('refined') if manifest.is_file() else None
    return refiner or (None if refined is not None else CaptionRefiner())


def _files(path: Path) -> list[Path]:
    """What a store is made of."""
    if path.is_dir():
        return sorted(path.glob('*/*.json*'))
    return [file for file in (path, manifest_path(path)) if file.is_file()]


def _build(path: Path, refiner: CaptionRefiner | None, folder: Path) -> dict[str, Any]:
    source = open_source(path)
    writer = IndexWriter(folder)
    counts: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    for entry in source:
        texts = [caption.text for caption in entry.captions]
        counts['captions'] += len(texts)
        if refiner is not None:
            verdicts = refiner.judge_image(texts, [caption.cut for caption in entry.captions])
            dropped.update(verdict.reason for verdict in verdicts if not verdict.kept)
            counts['shortened'] += sum(v.kept and bool(v.removals) for v in verdicts)
            texts = [verdict.text for verdict in verdicts if verdict.kept]
        counts['without'] += not texts
        writer.add(entry.image, texts)
    try:
        writer.finish()
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
    return dict(captioners=source.captioners, captions=counts['captions'], dropped=dict(dropped),
                shortened=counts['shortened'], without=counts['without'])


def _summary(name: str, facts: dict[str, Any]) -> str:
    dropped = facts['dropped']
    reasons = ', '.join(f'{count} {reason}' for reason, count in sorted(dropped.items()))
    return (f'{name}: {sum(dropped.values())} of {facts["captions"]} captions dropped'
            f'{f" ({reasons})" if reasons else ""}, {facts["shortened"]} shortened, '
            f'{facts["without"]} images left without')
