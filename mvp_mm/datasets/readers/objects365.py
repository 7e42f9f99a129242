# Copyright (c) mvp_mm authors. All rights reserved.
"""Objects365 v2 as published: its folders, its spelling, its missing images."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mvp_mm.datasets.readers.box_detection import BoxDetectionDataset
from mvp_mm.datasets.vocabulary.objects365_names import tidy_name
from mvp_mm.registry import DATASETS

_NO_FILE = 'annotated, but in no image archive'
_OTHER_SIZE = 'annotated with another size than the image has'
# Folder and name of a training image: why it is left out.
KNOWN_BAD: dict[str, str] = {
    'patch6/objects365_v1_00320532.jpg': _NO_FILE,
    'patch6/objects365_v1_00320534.jpg': _NO_FILE,
    'patch16/objects365_v2_00908726.jpg': _NO_FILE,
    'patch10/objects365_v1_00509398.jpg': _OTHER_SIZE,
    'patch21/objects365_v2_01118660.jpg': _OTHER_SIZE,
    'patch44/objects365_v2_02024631.jpg': _OTHER_SIZE,
}


def last_parts(file_name: str, number: int) -> str:
    """The last parts of a path: ``images/v1/patch8/a.jpg`` with 2 → ``patch8/a.jpg``."""
    return '/'.join(file_name.split('/')[-number:])


@DATASETS.register_module()
class Objects365Dataset(BoxDetectionDataset):
    """Objects365 v2 (``zhiyuan_objv2_train.json``): 365 classes, boxes only.

    Names are corrected (:mod:`mvp_mm.datasets.vocabulary.objects365_names`). Images of
    :data:`KNOWN_BAD` are left out and their number is logged.

    Args:
        *args: See :class:`PerceptionDataset`.
        path_parts: How many last parts of a published file name lead to the image below
            ``data_prefix['img']``. The file says ``images/v1/patch8/a.jpg``; the training
            archives unpack to ``patch8/a.jpg``, that is 2.
        **kwargs: See :class:`PerceptionDataset`.
    """

    left_out = tuple(KNOWN_BAD)

    def __init__(self, *args: Any, path_parts: int = 2, **kwargs: Any) -> None:
        if path_parts < 1:
            raise ValueError(f'path_parts must be positive, got {path_parts}')
        self.path_parts = path_parts
        super().__init__(*args, **kwargs)

    def set_classes(self, names: Sequence[str], is_thing: Sequence[bool]) -> None:
        """See :meth:`PerceptionDataset.set_classes`."""
        super().set_classes([tidy_name(name) for name in names], is_thing)

    def image_path(self, file_name: str) -> str:
        """Path of an image."""
        return super().image_path(last_parts(file_name, self.path_parts))
