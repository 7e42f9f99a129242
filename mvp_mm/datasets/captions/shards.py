# Copyright (c) mvp_mm authors. All rights reserved.
"""Names and checks the files of captioners: a folder per captioner, files per shard.

::

    captions/objects365/
      images.txt                     every image to caption, one per line, sorted
      internvl2-8b/
        00000-of-00004.json          manifest: model, prompt, sampling, list of images
        00000-of-00004.jsonl         {"image": "patch0/a.jpg", "caption": "A dog ..."}
        00000-of-00004.failed.jsonl  {"image": "patch0/b.jpg", "error": "..."}
      index/                         made when the store is opened
"""
from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mvp_mm.utils.files import load_json

FORMAT = 1
IMAGE_LIST = 'images.txt'
_CAPTIONER = re.compile(r'[A-Za-z0-9][A-Za-z0-9._+-]*')
_MANIFEST = re.compile(r'(\d{5})-of-(\d{5})\.json')


@dataclass(frozen=True)
class Shard:
    """Every ``count``-th image of the list, beginning with image ``index``."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count <= 99999:
            raise ValueError(f'shard {self.index}/{self.count}: need 0 <= i < n <= 99999')

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``i/n``.

        Raises:
            ValueError: If it is none.
        """
        match = re.fullmatch(r'(\d+)/(\d+)', text)
        if not match:
            raise ValueError(f'shard {text!r} is not of the form i/n, such as 0/4')
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f'{self.index:05d}-of-{self.count:05d}'


@dataclass(frozen=True)
class Manifest:
    """What made the captions of a shard; all shards of a captioner have the same but ``shard``.

    Attributes:
        captioner: Name of the captioner.
        backend: Name of the backend.
        model: Name or path of the model.
        prompt: What it was asked.
        sampling: How its answer was drawn, and how images were prepared.
        images: Number of images of the whole list.
        images_sha256: Digest of the list.
        shard: Part of the list.
        format: Version of the layout.
    """

    captioner: str
    backend: str
    model: str
    prompt: str
    sampling: dict[str, Any]
    images: int
    images_sha256: str
    shard: Shard = field(default=Shard())
    format: int = FORMAT

    def differences(self, other: Manifest) -> list[str]:
        """Fields, the part of the list aside, in which two manifests differ, with both values."""
        mine, theirs = asdict(self), asdict(other)
        mine['shard'], theirs['shard'] = self.shard.count, other.shard.count
        return [f'{"number of shards" if key == "shard" else key}: {theirs[key]!r} there, '
                f'{mine[key]!r} here' for key in mine if mine[key] != theirs[key]]

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Read a manifest.

        Raises:
            ValueError: If it is broken or of another version, naming the file.
        """
        content = load_json(path)
        if content.get('format') != FORMAT:
            raise ValueError(f'{path}: format {content.get("format")!r} is not {FORMAT}')
        try:
            return cls(**dict(content, shard=Shard(**content['shard'])))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f'{path} is no manifest of captions: {error}') from error

    def save(self, path: Path) -> None:
        """Write the manifest in one step."""
        write_atomically(path, json.dumps(asdict(self), indent=1, ensure_ascii=False) + '\n')


@dataclass(frozen=True)
class ShardFiles:
    """Files of one captioner's shard."""

    folder: Path
    shard: Shard

    @property
    def manifest(self) -> Path:
        """Manifest."""
        return self.folder / f'{self.shard}.json'

    @property
    def captions(self) -> Path:
        """Captions."""
        return self.folder / f'{self.shard}.jsonl'

    @property
    def failures(self) -> Path:
        """Images that could not be captioned."""
        return self.folder / f'{self.shard}.failed.jsonl'

    @property
    def lock(self) -> Path:
        """Held by the process that writes."""
        return self.folder / f'.{self.shard}.lock'


def write_atomically(path: Path, text: str) -> None:
    """Write a file that is there as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.name}.{os.getpid()}')
    part.write_text(text, encoding='utf-8')
    part.replace(path)


def check_captioner(name: str) -> str:
    """Refuse a captioner's name that cannot name its folder.

    Raises:
        ValueError: Saying what is allowed.
    """
    if not _CAPTIONER.fullmatch(name):
        raise ValueError(f'captioner {name!r}: use letters, digits and . _ + -')
    return name


def list_digest(images: Sequence[str]) -> str:
    """SHA-256 of a list of images."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(image.encode() + b'\n')
    return digest.hexdigest()


def read_image_list(store: Path) -> list[str]:
    """Names of all images that a store is to caption.

    Raises:
        FileNotFoundError: If the store has no list.
    """
    path = store / IMAGE_LIST
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist: {store} was not written by a captioner')
    return path.read_text(encoding='utf-8').split('\n')[:-1]


def shards_of(store: Path) -> dict[str, list[tuple[ShardFiles, Manifest]]]:
    """Shards by captioner, captioners sorted by name.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If a manifest is broken, or files of captions have none.
    """
    if not store.is_dir():
        raise FileNotFoundError(f'Folder of captions {store} does not exist')
    found: dict[str, list[tuple[ShardFiles, Manifest]]] = {}
    for folder in sorted(p for p in store.iterdir() if p.is_dir()):
        for path in sorted(folder.glob('*.jsonl')):
            stem = path.name.removesuffix('.jsonl').removesuffix('.failed')
            if not (folder / f'{stem}.json').is_file():
                raise ValueError(f'{path} has no manifest {stem}.json beside it')
        for path in sorted(folder.glob('*.json')):
            match = _MANIFEST.fullmatch(path.name)
            if not match:
                raise ValueError(f'{path} is not named as a manifest, such as '
                                 '00000-of-00004.json')
            manifest = Manifest.load(path)
            shard = Shard(int(match[1]), int(match[2]))
            if manifest.shard != shard or manifest.captioner != folder.name:
                raise ValueError(f'{path} is the manifest of {manifest.captioner}, shard '
                                 f'{manifest.shard}')
            found.setdefault(folder.name, []).append((ShardFiles(folder, shard), manifest))
    return found
