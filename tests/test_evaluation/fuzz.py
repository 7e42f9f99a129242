# Copyright (c) mvp_mm authors. All rights reserved.
"""Damages saved predictions at random and looks at what becomes of them.

    python -m tests.test_evaluation.fuzz --seed 0 --number 200

See :mod:`tests.test_datasets.fuzz`; here the damaged file is one of a folder of predictions, which
are read and scored.
"""
from __future__ import annotations

import argparse
import json
import random
import signal
import tempfile
from pathlib import Path

from mmengine.logging import MMLogger

from tests.fuzzing import attempt, change_bytes, change_value, limit_memory, report
from tests.test_evaluation.test_saved_predictions import (
    ASKED,
    evaluate,
    make,
    make_question,
    reader,
)

COUNT = 6


class World:
    """Saved predictions of each kind, and the figures that they give."""

    def __init__(self, root: Path) -> None:
        self.folders = {kind: root / kind for kind in ASKED}
        for kind, folder in self.folders.items():
            folder.mkdir()
            make(folder, kind, COUNT)
        self.sound = {kind: self.score(kind) for kind in ASKED}

    def score(self, kind: str) -> dict[str, float]:
        """Read the predictions and score them."""
        saved = reader(self.folders[kind])
        samples = [make_question(kind, number) for number in range(COUNT)]
        for sample in samples:
            saved.answer(sample)
        saved.check_all_used()
        return evaluate(kind, samples)


def try_one(world: World, rng: random.Random, number: int) -> list[tuple[str, str, str]]:
    """Damage one file; gives the outcome of reading and scoring."""
    kind = rng.choice(list(ASKED))
    path = rng.choice(sorted(p for p in (world.folders[kind] / 'out').rglob('*') if p.is_file()))
    sound, where = path.read_bytes(), []
    if path.suffix != '.json' or rng.random() < 0.15:
        damaged = change_bytes(rng, sound)
    else:
        content = json.loads(sound)
        where = change_value(rng, content)
        damaged = json.dumps(content).encode()
    title = f'{number} {kind} {path.name} {where}'
    print(title, flush=True)
    path.write_bytes(damaged)
    signal.alarm(20)
    try:
        # A KeyError names a sample without an answer.
        outcome, found = attempt(lambda: world.score(kind), (path.name, 'image '),
                                 (ValueError, KeyError))
        # Without candidates there are no figures of an oracle.
        fewer = 'candidates' in where
        if outcome == 'right' and not fewer and found.keys() != world.sound[kind].keys():
            outcome = f'other figures: {sorted(found)}'
    finally:
        signal.alarm(0)
        path.write_bytes(sound)
    return [(title, 'score', outcome)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--number', type=int, default=200)
    args = parser.parse_args()
    MMLogger.get_current_instance().setLevel('CRITICAL')
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        limit_memory(2 << 30)
        rng = random.Random(args.seed)
        report(outcome for number in range(args.number)
               for outcome in try_one(world, rng, number))


if __name__ == '__main__':
    main()
