# Copyright (c) mvp_mm authors. All rights reserved.
"""Reads recipe files of ablation suites and plans their runs."""
from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mvp_mm.utils.atomic import write_text
from mvp_mm.utils.shipped import find_shipped, shipped_root

# Keys of a recipe file and of a recipe in it.
_REQUIRED = ('config', 'datasets', 'columns', 'recipes', 'tables')
_KNOWN = (*_REQUIRED, 'options', 'seconds_per_step', 'seconds_per_image')
_OF_RECIPE = ('config', 'variant', 'options')


@dataclass(frozen=True)
class Recipe:
    """A way to train.

    Attributes:
        name: Its key in the recipe file.
        config: Config file.
        options: What is changed in the config, by dotted path.
        variant: How ``measure_model.py`` asks the model.
    """

    name: str
    config: str
    options: Mapping[str, Any]
    variant: str = 'thinking'


@dataclass(frozen=True)
class Suite:
    """Content of a recipe file.

    Attributes:
        recipes: By name.
        datasets: Datasets of ``test_dataloader`` to measure.
        columns: Metrics ``<dataset>/<metric>`` by the heading of their column.
        tables: By name: ``title``, and ``rows`` from heading to recipe.
        seconds_per_step: Estimate for one training step.
        seconds_per_image: Estimate for one image of one dataset.
    """

    recipes: Mapping[str, Recipe]
    datasets: Sequence[str]
    columns: Mapping[str, str]
    tables: Mapping[str, Mapping[str, Any]]
    seconds_per_step: float = 1.0
    seconds_per_image: float = 0.25

    def choose(self, names: Sequence[str] | None) -> list[Recipe]:
        """Choose recipes by name; None for all.

        Raises:
            ValueError: If there is no such recipe.
        """
        unknown = sorted(set(names or ()) - self.recipes.keys())
        if unknown:
            raise ValueError(f'no recipe {unknown[0]!r}; there are {", ".join(self.recipes)}')
        return [self.recipes[name] for name in names or self.recipes]


def read_suite(path: str | Path) -> Suite:
    """Read a recipe file.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If something in it is missing, unknown or names what is not there.
    """
    file = find_shipped(path)
    content = yaml.safe_load(file.read_text(encoding='utf-8'))
    if not isinstance(content, dict):
        raise ValueError(f'{file}: not a recipe file')
    for key in _REQUIRED:
        if not content.get(key):
            raise ValueError(f'{file}: {key} is missing')
    _refuse_unknown(file, 'recipe file', content, _KNOWN)
    common = content.pop('options', None) or {}
    config = content.pop('config')
    recipes = {}
    for name, recipe in content.pop('recipes').items():
        _refuse_unknown(file, f'recipe {name}', recipe, _OF_RECIPE)
        options = {**common, **(recipe.get('options') or {})}
        recipes[name] = Recipe(**{'config': config, **recipe, 'name': name, 'options': options})
    # YAML reads some headings as numbers or null.
    tables = {key: dict(title=table['title'], rows={str(head): recipe for head, recipe
                                                    in table['rows'].items()})
              for key, table in content.pop('tables').items()}
    for key, table in tables.items():
        for recipe in table['rows'].values():
            if recipe not in recipes:
                raise ValueError(f'{file}: table {key} names the recipe {recipe!r}, '
                                 'which is not there')
    for column in content['columns'].values():
        if column.partition('/')[0] not in content['datasets']:
            raise ValueError(f'{file}: column {column} is of no dataset that is measured')
    return Suite(recipes=recipes, tables=tables, **content)


def _refuse_unknown(file: Path, place: str, found: Mapping, known: Sequence[str]) -> None:
    unknown = sorted(set(found) - set(known))
    if unknown:
        raise ValueError(f'{file}: {place}: unknown key {unknown[0]!r}; known are '
                         f'{", ".join(known)}')


@dataclass
class Run:
    """One recipe trained with one seed, and measured.

    Attributes:
        recipe: The recipe.
        seed: Seed of the training.
        steps: Training steps.
        images: Held-out images of each dataset to measure.
        datasets: Datasets to measure.
        folder: Where it lands.
    """

    recipe: Recipe
    seed: int
    steps: int
    images: int
    datasets: Sequence[str]
    folder: Path = field(kw_only=True)

    @property
    def name(self) -> str:
        """Name the run and its folder."""
        return f'{self.recipe.name}_s{self.seed}'

    @property
    def weights(self) -> Path:
        """Path of the checkpoint that the training ends with."""
        return self.folder / f'iter_{self.steps}.pth'

    @property
    def result(self) -> Path:
        """Path of the result file."""
        return self.folder / 'result.json'

    def train_command(self) -> list[str]:
        """Write the training command; it continues from the newest checkpoint, if there is one."""
        warm_up = min(100, max(1, self.steps // 10))
        options = {
            **self.recipe.options, 'randomness.seed': self.seed,
            'train_cfg.max_iters': self.steps, 'param_scheduler.0.end': warm_up,
            'param_scheduler.1.begin': warm_up, 'param_scheduler.1.end': self.steps,
            'default_hooks.checkpoint.interval': max(1, self.steps // 10)}
        return ['python', _tool('tools/train.py'), self.recipe.config, '--work-dir',
                str(self.folder), '--resume', '--cfg-options', *_pairs(options)]

    def measure_command(self) -> list[str]:
        """Write the measuring command."""
        return ['python', _tool('tools/analysis_tools/measure_model.py'), self.recipe.config,
                str(self.weights), '--images', str(self.images), '--datasets', *self.datasets,
                '--variants', self.recipe.variant, '--seed', str(self.seed), '--out',
                str(self.result), '--cfg-options', *_pairs(self.recipe.options)]

    def left(self) -> list[list[str]]:
        """List the commands that are still to be run.

        Raises:
            ValueError: If the folder holds a run with other settings.
        """
        self.check_folder()
        commands = [] if self.weights.is_file() else [self.train_command()]
        if commands or not self._measured():
            commands.append(self.measure_command())
        return commands

    def check_folder(self) -> None:
        """Compare the settings that the folder was started with.

        Raises:
            ValueError: If they are others.
        """
        if not self._plan.is_file():
            return
        started = json.loads(self._plan.read_text(encoding='utf-8'))
        for key, value in self._settings().items():
            if started.get(key) != value:
                raise ValueError(f'{self.folder} was started with {key}={started.get(key)!r}, not '
                                 f'{value!r}: remove it, or take another --work-dir')

    def start(self) -> None:
        """Note the settings in the folder, before anything runs there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self._plan, json.dumps(self._settings(), indent=1) + '\n')

    def measured(self) -> dict[str, Any] | None:
        """Read the result file; None where the run is not finished.

        Raises:
            ValueError: If the folder holds a run with other settings.
        """
        self.check_folder()
        return (json.loads(self.result.read_text(encoding='utf-8'))
                if self._plan.is_file() and self._measured() else None)

    @property
    def _plan(self) -> Path:
        return self.folder / 'ablation.json'

    def _settings(self) -> dict[str, Any]:
        # As JSON gives it back.
        return json.loads(json.dumps(dict(
            config=self.recipe.config, options=dict(self.recipe.options), seed=self.seed,
            steps=self.steps)))

    def _measured(self) -> bool:
        if not self.result.is_file():
            return False
        found = json.loads(self.result.read_text(encoding='utf-8'))
        figures = found['figures'].get(self.recipe.variant, {})
        return (found['settings']['images'] == self.images
                and all(name in figures for name in self.datasets))


def _tool(name: str) -> str:
    path = shipped_root() / name
    return name if Path(name).resolve() == path.resolve() else str(path)


def _pairs(options: Mapping[str, Any]) -> list[str]:
    return [f'{key}={value}' for key, value in options.items()]
