# Copyright (c) mvp_mm authors. All rights reserved.
"""Captions of images, kept beside any dataset."""
from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from filelock import FileLock
from mmengine.logging import print_log

from mvp_mm.datasets.captions.index import INDEX_FORMAT, CaptionIndex, IndexWriter
from mvp_mm.datasets.captions.layout import INDEX_FOLDER
from mvp_mm.datasets.captions.refine import CaptionRefiner
from mvp_mm.datasets.captions.sources import CaptionSource, manifest_path, open_source
from mvp_mm.datasets.files import load_json


class CaptionStore:
    """Captions by image file name, cleaned when the store is first opened.

    Read in place: the folder that captioners write (:mod:`mvp_mm.datasets.captions.layout`), the
    JSONL file of the merging and the refining command, a JSON file ``{"captioners": [...],
    "captions": {file_name: [text, ...]}}``, and COCO's captions JSON (``images`` and
    ``annotations``).

    Beside a folder or a JSONL file an index is made once, for each refiner; later openings and
    other processes map it. It is made anew when a file has changed. A JSON file is packed in
    memory.

    Names agree where the folders that both give are the same: ``train/patch0/a.jpg`` finds
    ``patch0/a.jpg`` and not ``patch1/a.jpg``. COCO's 2014 and 2017 names of an image agree.

    Args:
        path: The file or folder.
        refiner: Cleans captions; by default :class:`CaptionRefiner` with its default bounds, and
            nothing where the refining command has cleaned the file already.

    Raises:
        FileNotFoundError: If there is nothing.
        ValueError: If the layout is another, a record is broken, or two images have one name.
    """

    def __init__(self, path: str, refiner: CaptionRefiner | None = None) -> None:
        self.path = str(path)
        source = Path(path)
        if source.is_dir() or source.suffix == '.jsonl':
            self._folder: Path | None = _index_folder(source, refiner)
            self._index = CaptionIndex.open(self._folder)
        else:
            self._folder = None
            opened = open_source(source)
            self._index = _build(opened, _chosen(opened.refined, refiner), None)
        self.captioners: list[str] = self._index.meta['captioners']
        print_log(_summary(source.name, self._index.meta), logger='current')

    def __len__(self) -> int:
        return len(self._index)

    def get(self, file_name: str) -> list[str]:
        """Captions of an image, none where the store does not know it.

        Raises:
            ValueError: If the name fits several images of the store.
        """
        try:
            number = self._index.find(file_name)
        except ValueError as error:
            raise ValueError(f'{self.path}: {error}') from error
        return [] if number is None else self._index.texts(number)

    def __getstate__(self) -> dict[str, Any]:
        """Another process maps the files instead of taking a copy."""
        return dict(self.__dict__, _index=None) if self._folder else self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._folder:
            self._index = CaptionIndex.open(self._folder)


def _chosen(refined: dict | None, refiner: CaptionRefiner | None) -> CaptionRefiner | None:
    """The refiner that applies: the default one, unless the captions were cleaned before."""
    return refiner or (None if refined is not None else CaptionRefiner())


def _build(source: CaptionSource, refiner: CaptionRefiner | None,
           folder: Path | None) -> CaptionIndex:
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
        return writer.finish(dict(
            captioners=source.captioners, captions=counts['captions'], dropped=dict(dropped),
            shortened=counts['shortened'], without=counts['without']))
    except ValueError as error:
        raise ValueError(f'{source.path}: {error}') from error


def _summary(name: str, meta: dict[str, Any]) -> str:
    dropped = meta['dropped']
    reasons = ', '.join(f'{count} {reason}' for reason, count in sorted(dropped.items()))
    return (f'{name}: {sum(dropped.values())} of {meta["captions"]} captions dropped'
            f'{f" ({reasons})" if reasons else ""}, {meta["shortened"]} shortened, '
            f'{meta["without"]} images left without')


def _index_folder(path: Path, refiner: CaptionRefiner | None) -> Path:
    """The folder of a store's index, made where it is not there or no longer true."""
    if not path.exists():
        raise FileNotFoundError(f'Captions {path} do not exist')
    root = path / INDEX_FOLDER if path.is_dir() else Path(f'{path}.{INDEX_FOLDER}')
    refined = None
    if path.is_file() and manifest_path(path).is_file():
        refined = load_json(manifest_path(path)).get('refined')
    chosen = _chosen(refined, refiner)
    state = _state(path)
    folder = root / f'{state}-{_digest(chosen.settings if chosen else None)}'
    try:
        root.mkdir(exist_ok=True)
        with FileLock(root / '.lock'):
            if not folder.is_dir():
                _make(path, chosen, folder, state)
    except PermissionError as error:
        raise PermissionError(f'{path} needs an index beside it, which cannot be written: open '
                              'the store once where it can') from error
    return folder


def _make(path: Path, refiner: CaptionRefiner | None, folder: Path, state: str) -> None:
    print_log(f'{path}: making the index, once', logger='current')
    for stale in folder.parent.glob('*-*'):
        if not stale.name.startswith(f'{state}-') or stale.name.startswith('.'):
            shutil.rmtree(stale)
    part = folder.with_name(f'.part-{os.getpid()}')
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        _build(open_source(path), refiner, part)
        if _state(path) != state:
            raise ValueError(f'{path} changed while it was read: is a captioner still at work?')
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _state(path: Path) -> str:
    """Changes whenever a file of the store does."""
    files = sorted(p for p in path.glob('*/*.json*') if p.parent.name != INDEX_FOLDER) \
        if path.is_dir() else [path, manifest_path(path)]
    stats = [(file.name, file.parent.name, file.stat().st_size, file.stat().st_mtime_ns)
             for file in files if file.exists()]
    return _digest(stats)


def _digest(content: Any) -> str:
    text = json.dumps([INDEX_FORMAT, content])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
