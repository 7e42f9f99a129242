# Copyright (c) mvp_mm authors. All rights reserved.
"""Several datasets about the same images, asked together."""
from __future__ import annotations

import copy
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.datasets.captions.keys import bare_name, caption_key
from mvp_mm.datasets.tolerant import TolerantDataset
from mvp_mm.registry import DATASETS, TRANSFORMS


class ImageFinder:
    """Finds the items of a dataset that are about an image of another dataset.

    Args:
        dataset: Where to look.
    """

    def __init__(self, dataset: PerceptionDataset) -> None:
        self.dataset = dataset
        self._rows: dict[str, list[int]] = defaultdict(list)
        self._keys: dict[str, list[str]] = defaultdict(list)
        for row in range(len(dataset)):
            key = caption_key(dataset.file_name(row))
            if key not in self._rows:
                self._keys[bare_name(key)].append(key)
            self._rows[key].append(row)

    def find(self, file_name: str, path: str) -> list[int]:
        """Items about an image.

        Args:
            file_name: The image in the other dataset's annotation file.
            path: Where the other dataset finds it.

        Raises:
            ValueError: If several images agree with it.
        """
        key = caption_key(file_name)
        if key in self._rows:
            return self._rows[key]
        agreeing = [k for k in self._keys.get(bare_name(key), ()) if self._agrees(k, key, path)]
        if len(agreeing) > 1:
            raise ValueError(f'{path} may be {" or ".join(agreeing[:2])} of '
                             f'{self.dataset.ann_file}: give both datasets the same folder of '
                             'images')
        return self._rows[agreeing[0]] if agreeing else []

    def _agrees(self, key: str, other: str, path: str) -> bool:
        """Whether the folders that only one of two names gives are those of the other's path."""
        if len(key) < len(other):
            path = self.dataset.image_path(self.dataset.file_name(self._rows[key][0]))
        return f'/{os.path.normpath(path)}'.endswith(f'/{max(key, other, key=len)}')


@DATASETS.register_module()
class MultiSourceDataset(TolerantDataset):
    """One item is one image with the instructions of all member datasets that know it.

    A word list and several sentences then share one pass of the encoder. Items are those of the
    first member; the others add all they have about the same image. Two images are the same if
    their names below ``data_prefix`` are (COCO's 2014 and 2017 names of an image are taken for
    equal), or if one name has more folders and the other's path has them too. For training:
    objects of different members are kept apart, so nothing here tells an evaluation what belongs
    together.

    Args:
        datasets: Configs of the members, or built ones; they need no pipeline.
        pipeline: Transforms of the joined item, which holds the members' items in ``parts``.

    Raises:
        ValueError: If a file name fits several images of a member.
    """

    def __init__(self, datasets: Sequence[dict | PerceptionDataset],
                 pipeline: Sequence[dict | Callable] = ()) -> None:
        self.members: list[PerceptionDataset] = [
            DATASETS.build(d) if isinstance(d, dict) else d for d in datasets]
        self.finders = [ImageFinder(member) for member in self.members[1:]]
        built = [TRANSFORMS.build(t) if isinstance(t, dict) else t for t in pipeline]
        super().__init__(pipeline=built, serialize_data=False)
        self._metainfo.update(self.members[0].metainfo)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Nothing is copied: an item is an index into the first member."""
        return [dict(index=i) for i in range(len(self.members[0]))]

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """The first member's item, with all members' items about its image in ``parts``."""
        first = self.members[0].get_data_info(idx)
        name = self.members[0].file_name(idx)
        parts = [first]
        for member, finder in zip(self.members[1:], self.finders, strict=True):
            parts += [member.get_data_info(row) for row in finder.find(name, first['img_path'])]
        joined = copy.copy(first)
        joined['parts'] = parts
        return joined
