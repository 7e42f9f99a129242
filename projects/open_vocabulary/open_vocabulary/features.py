# Copyright (c) mvp_mm authors. All rights reserved.
"""A folder of frozen features: one map per image, one vector per class name.

``text.npz`` holds ``names`` (K,) and ``vectors`` (K, D); ``images/<stem>.npy`` a map (D, h, w) of
the image without padding. Nothing in a file is executed.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np


class FeatureFolder:
    """Reads features.

    Args:
        folder: The folder.

    Raises:
        FileNotFoundError: If it holds no ``text.npz``.
        ValueError: If names and vectors do not fit.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        path = self.folder / 'text.npz'
        if not path.is_file():
            raise FileNotFoundError(f'{path}: no text features; see projects/open_vocabulary')
        with np.load(path, allow_pickle=False) as content:
            names, vectors = content['names'].tolist(), content['vectors'].astype(np.float32)
        if vectors.ndim != 2 or len(names) != len(vectors):
            raise ValueError(f'{path}: {len(names)} names, vectors of shape {vectors.shape}')
        self._text: Mapping[str, np.ndarray] = dict(zip(names, vectors, strict=True))

    def text(self, names: Sequence[str]) -> np.ndarray:
        """Look up the vectors (K, D) of class names.

        Raises:
            KeyError: Naming the file and a name that is not there.
        """
        missing = [name for name in names if name not in self._text]
        if missing:
            raise KeyError(f'{self.folder / "text.npz"}: no vector of {missing[0]!r}')
        return np.stack([self._text[name] for name in names])

    def image(self, img_path: str) -> np.ndarray:
        """Read the map (D, h, w) of an image.

        Raises:
            FileNotFoundError: If there is none.
        """
        path = self.folder / 'images' / f'{Path(img_path).stem}.npy'
        if not path.is_file():
            raise FileNotFoundError(f'{path}: no features of the image {img_path}')
        return np.load(path, allow_pickle=False).astype(np.float32)


def write_features(folder: str | Path, names: Sequence[str], vectors: np.ndarray,
                   images: Iterable[tuple[str, np.ndarray]]) -> None:
    """Write a folder for :class:`FeatureFolder`, in half precision.

    Args:
        folder: The folder; files in it are replaced.
        names: K class names.
        vectors: (K, D).
        images: Path of each image and its map (D, h, w).
    """
    place = Path(folder) / 'images'
    place.mkdir(parents=True, exist_ok=True)
    np.savez(Path(folder) / 'text.npz', names=np.array(names), vectors=vectors.astype(np.float16))
    for path, features in images:
        np.save(place / f'{Path(path).stem}.npy', features.astype(np.float16))
