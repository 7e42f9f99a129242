# Copyright (c) mvp_mm authors. All rights reserved.
"""What is said about boxes that cannot be used."""
from __future__ import annotations

from pathlib import Path

from mmengine.logging import print_log

from mvp_mm.datasets.index_coco import CocoIndex


def check_faults(index: CocoIndex, test_mode: bool, max_share: float) -> None:
    """Log the boxes that an index has left out.

    Args:
        index: The opened annotation file.
        test_mode: Whether they are an error.
        max_share: Largest share of them in training.

    Raises:
        ValueError: In evaluation if there are any, in training if there are too many.
    """
    counts, total = index.faults['counts'], index.faults['total']
    if not counts:
        return
    number = sum(counts.values())
    reasons = ', '.join(f'{count} {reason}' for reason, count in counts.items())
    examples = '; '.join(index.faults['examples'])
    report = (f'{number} of {total} boxes cannot be used ({reasons}): {examples}'
              f'{"; …" if number > len(index.faults["examples"]) else ""}')
    if test_mode:
        raise ValueError(f'{index.path}: {report}')
    if number > max(len(index.faults['examples']), max_share * total):
        raise ValueError(f'{index.path}: more than max_bad_share={max_share:g}: {report}')
    print_log(f'{Path(index.path).name}: left out: {report}', logger='current')
