# Copyright (c) mvp_mm authors. All rights reserved.
"""Looks at what commands leave behind: an exit status of 0 alone proves little."""
from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

from mvp_mm.engine import load_config
from mvp_mm.engine.batching import spread_batch
from mvp_mm.engine.launch import default_work_dir

RECIPE_GPUS = 8
Check = Callable[[Path, str], None]


def last_checkpoint(place: Path, config: str) -> Path:
    """Find the newest checkpoint of a run.

    Args:
        place: Folder of the rehearsal.
        config: The run's config.

    Raises:
        RuntimeError: If there is none.
    """
    folder = place / default_work_dir(config)
    record = folder / 'last_checkpoint'
    path = folder / Path(record.read_text().strip()).name if record.is_file() else record
    if not path.is_file():
        raise RuntimeError(f'the run left no checkpoint: {path} does not exist')
    return path


def keep(config: str, name: str) -> Check:
    """Copy the newest checkpoint of a run to a name that later commands use."""
    def check(place: Path, output: str) -> None:
        shutil.copy(last_checkpoint(place, config), place / name)

    return check


def final_name(config: str) -> str:
    """Name the last checkpoint of a whole run on the recipe's GPUs."""
    cfg = load_config(config)
    spread_batch(cfg, RECIPE_GPUS)
    return f'iter_{cfg.train_cfg.max_iters}.pth'


def named_as_in_recipe(stage1: str, stage2: str) -> Check:
    """Give the checkpoint of a shortened stage 1 the name that the whole run ends with.

    Raises:
        RuntimeError: When stage 2 looks for another.
    """
    name, asked = final_name(stage1), load_config(stage2).load_from

    def check(place: Path, output: str) -> None:
        if Path(asked) != default_work_dir(stage1) / name:
            raise RuntimeError(f'{stage1} on {RECIPE_GPUS} GPUs ends with {name}, {stage2} starts '
                               f'from {asked}')
        last = last_checkpoint(place, stage1)
        shutil.move(last, last.with_name(name))

    return check


def left_in_file(allowed: Collection[str]) -> Check:
    """Compare what a converter leaves of a file with what has no place in our model."""
    def check(place: Path, output: str) -> None:
        found = re.search(r'^left in the file: \d+\n((?:  .*\n)*)', output, re.MULTILINE)
        left = set(re.findall(r'^  (.*): \d+$', found[1], re.MULTILINE)) if found else {'?'}
        if left != set(allowed):
            raise RuntimeError(f'left in the file: {sorted(left)}, expected {sorted(allowed)}')

    return check


def starts_from(*files: str, random: Collection[str] = ()) -> Check:
    """Compare the sources of the weights with the recipe's.

    Args:
        *files: Files and folders that the table of sources must name.
        random: Parts that the recipe leaves at random values, as the log's warning names them.
    """
    def check(place: Path, output: str) -> None:
        table = output.partition('Where the weights come from:\n')[2].partition('mmengine')[0]
        # The table follows links.
        missing = [file for file in files if not any(
            re.search(rf'\s{re.escape(name)}$', table, re.MULTILINE)
            for name in (file, str((place / file).resolve())))]
        if missing:
            raise RuntimeError(f'no weight came from {missing[0]}:\n{table}')
        warned = re.search(r'TRAINED FROM RANDOM VALUES: (.*?)\. ', output)
        found = set(warned[1].split(', ')) if warned else set()
        if found != set(random):
            raise RuntimeError(f'trained from random values: {sorted(found)}, expected '
                               f'{sorted(random)}')

    return check


def scores_all(config: str) -> Check:
    """Look for figures of every dataset that a config tests."""
    tested = set(load_config(config).test_dataloader)

    def check(place: Path, output: str) -> None:
        figures = json.loads((place / default_work_dir(config) / 'metrics.json').read_text())
        scored = {key.split('/')[0] for key in figures}
        missing = sorted(tested - scored)
        if missing:
            raise RuntimeError(f'no figure of {", ".join(missing)} in metrics.json')

    return check


def full_rows(place: Path, output: str) -> None:
    """Look for empty cells in our rows of the paper's tables.

    Raises:
        RuntimeError: If there is one; by sentences joined, GRES is not measured.
    """
    rows = [[cell.strip() for cell in line.strip('|').split('|')]
            for line in output.splitlines() if line.startswith('| **ours**')]
    if len(rows) != 5:
        raise RuntimeError(f'{len(rows)} rows of ours in the three tables, expected 5')
    for name, _, *cells in rows:
        measured = cells[:8] if 'joined' in name else cells
        if not all(measured):
            raise RuntimeError(f'an empty cell: {name} {cells}')


def together(*checks: Check) -> Check:
    """Run several checks, one after the other."""
    def check(place: Path, output: str) -> None:
        for one in checks:
            one(place, output)

    return check
