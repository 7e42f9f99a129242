# Copyright (c) mvp_mm authors. All rights reserved.
"""Renaming of weights by rules, with an account of what became of every tensor."""
from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor


class Rule(NamedTuple):
    """Keys that match become another key, or several.

    Attributes:
        pattern: Regular expression of the whole key.
        targets: The new key, with groups of the pattern; several where a tensor is split.
        change: Applied to the tensor; gives as many tensors as there are targets. None leaves it.
    """

    pattern: str
    targets: str | tuple[str, ...]
    change: Callable[[Tensor], Tensor | Sequence[Tensor]] | None = None

    def apply(self, key: str, tensor: Tensor) -> list[tuple[str, Tensor]] | None:
        """New keys and tensors, None where the key does not match."""
        match = re.fullmatch(self.pattern, key)
        if match is None:
            return None
        changed = self.change(tensor) if self.change else tensor
        if isinstance(self.targets, str):
            return [(match.expand(self.targets), changed)]
        return [(match.expand(target), piece)
                for target, piece in zip(self.targets, changed, strict=True)]


@dataclass
class Conversion:
    """Converted weights and their origin.

    Attributes:
        state: Tensors by our key.
        source: Old key by our key.
        left: Old keys that no rule knows.
    """

    state: dict[str, Tensor] = field(default_factory=dict)
    source: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    def add(self, key: str, tensor: Tensor, source: str) -> None:
        """Take a tensor over.

        Raises:
            ValueError: If two old keys become one, and differ.
        """
        if key in self.state:
            same = self.state[key].shape == tensor.shape and bool((self.state[key] == tensor).all())
            if not same:
                raise ValueError(f'{self.source[key]} and {source} both become {key} and differ')
            return
        self.state[key] = tensor
        self.source[key] = source


def convert(state: Mapping[str, Tensor], rules: Iterable[Rule]) -> Conversion:
    """Apply the first rule that matches to every key."""
    rules = list(rules)
    done = Conversion()
    for key, tensor in state.items():
        found = next((new for rule in rules if (new := rule.apply(key, tensor))), None)
        if found is None:
            done.left.append(key)
        for name, value in found or ():
            done.add(name, value, key)
    return done
