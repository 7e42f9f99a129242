# Copyright (c) mvp_mm authors. All rights reserved.
"""Decides which images of an annotation file a dataset uses, and logs how many it leaves out."""
from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

from mvp_mm.datasets.refer_files import all_held_out
from mvp_mm.utils.faults import Faults


class ImageSelection:
    """Rows of an annotation file that remain after some of its images are left out.

    Args:
        ann_file: The annotation file, for messages.
        rows: (n,) int64, the images to choose from.
        names: Gives the file names of all images of the file, in order.
        faults: Takes the numbers that a check reports.
    """

    def __init__(self, ann_file: str, rows: np.ndarray, names: Callable[[], Iterable[str]],
                 faults: Faults) -> None:
        self.ann_file = ann_file
        self.rows = rows
        self.names = names
        self.faults = faults

    def leave_out_held_out(self, ids: Callable[[], Iterable[Any]], files: Sequence[str]) -> None:
        """Leave out images that files of references use outside their training split.

        Args:
            ids: Gives the ids of all images of the annotation file, in order.
            files: Paths of the files of references; nothing is done without any.
        """
        if not files:
            return
        held_out = all_held_out(files)
        total = len(self.rows)
        self._keep(np.array([image not in held_out for image in ids()], dtype=bool))
        names = ', '.join(Path(path).name for path in files)
        self._log(f'{total - len(self.rows)} of {total} images left out, which {names} use '
                  'outside their training split')

    def leave_out_names(self, ends: tuple[str, ...]) -> None:
        """Leave out images whose file names end so, because they are known to be bad.

        Raises:
            ValueError: If no image is left.
        """
        if ends:
            number = len(self.rows)
            self._keep(np.array([not name.endswith(ends) for name in self.names()], dtype=bool))
            if len(self.rows) < number:
                what = 'images left out that are known to be missing or broken'
                self._note(number - len(self.rows), what)
        self._refuse_empty()

    def require_captions(self, tasks: Sequence[Any], has_caption: Callable[[str], Any] | bool,
                         captioned: bool) -> None:
        """Apply the tasks' rule for training images that have no caption.

        Args:
            tasks: Tasks of the dataset.
            has_caption: Tells by file name whether an image has a caption; True if all have one.
            captioned: Whether the dataset has captions at all: a store, or some of its own.

        Raises:
            ValueError: If an image lacks a caption and a task neither leaves it out nor answers
                without.
        """
        needing = [task for task in tasks if task.needs_captions]
        if not captioned and all(task.captions_optional for task in needing):
            if needing:
                self._log('no captions and no caption_store: the response of '
                          f'{", ".join(task.name for task in needing)} is the result alone',
                          logging.WARNING)
            return
        if not needing or has_caption is True:
            return
        missing, example = self._without_caption(has_caption if captioned else lambda name: False)
        if not example:
            return
        number = int(missing[self.rows].sum())
        strict = [task for task in needing if task.missing_caption != 'leave_out']
        if strict:
            raise ValueError(
                f'{self.ann_file}: {number} of {len(self.rows)} images have no caption (for '
                f'example {example}), which task {strict[0].name} needs: give a caption_store '
                "that has them, or set its response='none', or missing_caption='none' (answered "
                "without) or 'leave_out'")
        share = number / len(self.rows)
        self._keep(~missing)
        self.faults.note('images left out that have no caption', number)
        self._log(f'{number} images ({share:.2%}) left out that have no caption (for example '
                  f'{example})', logging.WARNING)
        self._refuse_empty()

    def _without_caption(self, has_caption: Callable[[str], Any]) -> tuple[np.ndarray, str]:
        """Which of the rows in use have no caption, (rows of the file,) bool, and one's name."""
        used = np.zeros(int(self.rows.max()) + 1, dtype=bool)
        used[self.rows] = True
        missing = np.zeros(len(used), dtype=bool)
        example = ''
        for row, (name, in_use) in enumerate(zip(self.names(), used.tolist(), strict=False)):
            if in_use and not has_caption(name):
                missing[row] = True
                example = example or name
        return missing, example

    def _keep(self, kept: np.ndarray) -> None:
        self.rows = self.rows[kept[self.rows]]

    def _refuse_empty(self) -> None:
        if not len(self.rows):
            raise ValueError(f'{self.ann_file}: no image is left')

    def _note(self, number: int, what: str) -> None:
        self.faults.note(what, number)
        self._log(f'{number} {what}')

    def _log(self, message: str, level: int = logging.INFO) -> None:
        print_log(f'{Path(self.ann_file).name}: {message}', logger='current', level=level)
