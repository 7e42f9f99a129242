# Copyright (c) mvp_mm authors. All rights reserved.
"""Renaming of weights by rules, with an account of what became of every tensor."""
from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor


class Rule(NamedTuple):
    """Keys that match become another key.

    Attributes:
        pattern: Regular expression of the whole key.
        target: The new key, with groups of the pattern.
        change: Applied to the tensor; None leaves it.
    """

    pattern: str
    target: str
    change: Callable[[Tensor], Tensor] | None = None


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
    compiled = [(re.compile(rule.pattern), rule) for rule in rules]
    done = Conversion()
    for key, tensor in state.items():
        for pattern, rule in compiled:
            if pattern.fullmatch(key):
                value = rule.change(tensor) if rule.change else tensor
                done.add(pattern.sub(rule.target, key), value, key)
                break
        else:
            done.left.append(key)
    return done
