# Copyright (c) mvp_mm authors. All rights reserved.
"""Small records in one block of memory, which forked workers share without copying it."""
from __future__ import annotations

import pickle
from collections.abc import Iterable
from typing import Any

import numpy as np


class PackedList:
    """A list whose members are kept as bytes.

    Reading a Python object writes to its reference count, so that every worker would copy a list
    of objects page by page; bytes in an array are only read.

    Args:
        members: What it holds.
    """

    def __init__(self, members: Iterable[Any]) -> None:
        texts = [pickle.dumps(member, protocol=4) for member in members]
        self._ends = np.cumsum([0, *map(len, texts)])
        self._bytes = np.frombuffer(b''.join(texts), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: int) -> Any:
        first, last = self._ends[number:number + 2]
        return pickle.loads(self._bytes[first:last])
