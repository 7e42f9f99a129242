# Copyright (c) mvp_mm authors. All rights reserved.
"""Several datasets about the same images, asked together."""
from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mvp_mm.datasets.bad_samples import TolerantDataset
from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.registry import DATASETS, TRANSFORMS


@DATASETS.register_module()
class JoinedDataset(TolerantDataset):
    """One item is one image with the instructions of all member datasets that know it.

    A word list and several sentences then share one pass of the encoder. Items are those of the
    first member; the others add what they have about the same file name. For training: objects
    of different members are kept apart, so nothing here tells an evaluation what belongs together.

    Args:
        datasets: Configs of the members, or built ones; they need no pipeline.
        pipeline: Transforms of the joined item, which holds the members' items in ``parts``.
    """

    def __init__(self, datasets: Sequence[dict | PerceptionDataset],
                 pipeline: Sequence[dict | Callable] = ()) -> None:
        self.members: list[PerceptionDataset] = [
            DATASETS.build(d) if isinstance(d, dict) else d for d in datasets]
        self.rows = [self._rows(member) for member in self.members[1:]]
        built = [TRANSFORMS.build(t) if isinstance(t, dict) else t for t in pipeline]
        super().__init__(pipeline=built, serialize_data=False)
        self._metainfo.update(self.members[0].metainfo)

    @staticmethod
    def _rows(member: PerceptionDataset) -> dict[str, int]:
        """Where a member keeps each image."""
        return {Path(member.file_name(i)).name: i for i in range(len(member))}

    def load_data_list(self) -> list[dict[str, Any]]:
        """Nothing is copied: an item is an index into the first member."""
        return [dict(index=i) for i in range(len(self.members[0]))]

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """The first member's item, with all members' items about its image in ``parts``."""
        first = self.members[0].get_data_info(idx)
        name = Path(first['img_path']).name
        parts = [first]
        parts += [member.get_data_info(rows[name])
                  for member, rows in zip(self.members[1:], self.rows, strict=True) if name in rows]
        joined = copy.copy(first)
        joined['parts'] = parts
        return joined
