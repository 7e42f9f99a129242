# Copyright (c) mvp_mm authors. All rights reserved.
"""What a check found, as text and as JSON."""
from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        kind: Short name that faults of a kind share, such as ``'missing image'``.
        where: The record: its kind and id, or its file.
        message: What is wrong.
    """

    kind: str
    where: str
    message: str


@dataclass
class Report:
    """Outcome of a dataset's check.

    Attributes:
        name: What was checked.
        counts: Numbers of things looked at.
        notes: Numbers of things that are unusual but harmless, by what they are.
        faults: The faults.
    """

    name: str
    counts: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)

    def add(self, kind: str, where: str, message: str) -> None:
        """Note a fault."""
        self.faults.append(Fault(kind, where, message))

    @property
    def by_kind(self) -> dict[str, list[Fault]]:
        """Faults by their kind, the most frequent kind first."""
        kinds = Counter(fault.kind for fault in self.faults)
        return {kind: [fault for fault in self.faults if fault.kind == kind]
                for kind, _ in kinds.most_common()}

    def text(self, examples: int = 5) -> str:
        """The report for people.

        Args:
            examples: Most faults shown of each kind.
        """
        lines = [self.name]
        lines += [f'  {number} {what}' for what, number in self.counts.items()]
        lines += [f'  note: {number} {what}' for what, number in self.notes.most_common()]
        for kind, faults in self.by_kind.items():
            lines.append(f'  FAULT: {kind}: {len(faults)}')
            lines += [f'    {fault.where}: {fault.message}' for fault in faults[:examples]]
            if len(faults) > examples:
                lines.append(f'    … and {len(faults) - examples} more')
        lines.append(f'  {len(self.faults)} fault(s)' if self.faults else '  no fault')
        return '\n'.join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The report for programs; holds every fault."""
        return dict(
            name=self.name,
            counts=dict(self.counts),
            notes=dict(self.notes),
            faults_by_kind={kind: len(faults) for kind, faults in self.by_kind.items()},
            faults=[asdict(fault) for fault in self.faults])
