# Copyright (c) mvp_mm authors. All rights reserved.
"""Check a config before anything is built from it.

mmengine ignores an unknown top-level key, finds an unknown type or a value that cannot be only
when it builds it, and a missing file later still. :func:`check_config` finds them first and names
them together, with the paths of their keys.
"""
from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence

from mmengine import registry as root_registry
from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mvp_mm import registry as own_registry
from mvp_mm.engine.config_binding import binding_problems
from mvp_mm.engine.config_error import (
    children,
    hint,
    join_path,
    named_loaders,
    raise_problems,
)
from mvp_mm.engine.config_files import missing_files
from mvp_mm.engine.config_guards import hook_problems
from mvp_mm.engine.config_sections import section_problems
from mvp_mm.engine.config_values import loader_type_problems, type_problems, value_problems
from mvp_mm.engine.llm_check import llm_problems
from mvp_mm.engine.size_check import size_problems

EXTRA_TOP_KEYS = (
    'custom_imports',  # modules that register their components on import
    'inferencer',  # what mvp_mm.apis.PerceptionInferencer offers
    'model_wrapper_cfg', 'find_unused_parameters', 'sync_bn', 'compile',
    'activation_checkpointing', 'efficient_conv_bn_eval',
    'canvas',  # (width, height) of the network's input, bound to every pipeline
    'vis_backends',  # given to the visualizer
    'runner_type',  # a runner of the registry; without it mmengine's
    'total_batch_size',  # images a step of the optimizer, on any number of processes
    'tta_model', 'tta_pipeline',
)
LOADER_KEYS = ('dataset', 'sampler', 'batch_sampler', 'num_batch_per_epoch', 'collate_fn',
               'disable_subprocess_warning')
# Keys that mmengine takes out of a component's dict before it calls the constructor.
COMMON_KEYS = ('type', '_scope_', '_delete_')
CONSUMED_KEYS = {
    'optim_wrapper': ('constructor', 'paramwise_cfg'),
    'default_hooks': ('priority',),
    'custom_hooks': ('priority',),
}


def check_config(cfg: Config, modes: Sequence[str] = ('train',)) -> None:
    """Check a config; raise one error that names every problem.

    Args:
        cfg: The config, as :func:`~mvp_mm.engine.config_loading.load_config` gives it.
        modes: Which of 'train', 'val' and 'test' will run. Files are looked for
            only in the data loaders and evaluators of these.

    Raises:
        ConfigError: If a key or type is unknown, a value is of another type or out of its range,
            an input file is missing, or settings contradict each other.
    """
    problems = [*_unknown_top_keys(cfg), *_unknown_runner(cfg), *section_problems(cfg, modes)]
    _resolve.cache_clear()  # components may have been registered since
    for key, value in cfg.items():
        if key.startswith('_') or key == 'custom_imports':
            continue
        problems += _component_problems(value, key)
    for mode in ('train', 'val', 'test'):
        problems += _loader_problems(cfg.get(f'{mode}_dataloader'), f'{mode}_dataloader')
        problems += _evaluator_problems(cfg, mode)
    # Components have told where a value is of another type.
    told = {problem.split(':')[0] for problem in problems}
    values = [one for one in value_problems(cfg) if one.split(':')[0] not in told]
    problems += [*values, *hook_problems(cfg), *missing_files(cfg, modes)]
    if not values and not told:
        problems += [*size_problems(cfg), *llm_problems(cfg), *binding_problems(cfg)]
    raise_problems(cfg.filename or 'config', problems)


def _evaluator_problems(cfg: Config, mode: str) -> Iterator[str]:
    """Compare the names of the multi loops' datasets and metrics."""
    loaders, metrics = cfg.get(f'{mode}_dataloader'), cfg.get(f'{mode}_evaluator')
    where = f'{mode}_dataloader'
    names = {path.partition('.')[2] for path, _ in named_loaders(loaders, where)} - {''}
    if not names or not isinstance(metrics, (dict, type(None))):
        return
    for name in sorted(names - set(metrics or ())):
        yield (f"{mode}_evaluator.{name}: no metrics; write them there or as metrics of the "
               'dataset in datasets')
    for name in sorted(set(metrics or ()) - names):
        yield f'{mode}_evaluator.{name}: {where} has no such dataset{hint(name, names)}'


def _unknown_top_keys(cfg: Config) -> Iterator[str]:
    """Find top-level keys that neither mmengine's Runner nor this project reads."""
    runner_keys = set(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'}
    known = runner_keys | set(EXTRA_TOP_KEYS)
    for key in cfg:
        if not key.startswith('_') and key not in known:
            yield (f"unknown top-level key '{key}'{hint(key, known)} "
                   "(a config's own variables start with '_')")


def _unknown_runner(cfg: Config) -> Iterator[str]:
    """Look the runner up."""
    name = cfg.get('runner_type', 'Runner')
    if own_registry.RUNNERS.get(name) is None:
        known = {*own_registry.RUNNERS.module_dict, *root_registry.RUNNERS.module_dict}
        yield f"runner_type: '{name}' is no runner{hint(name, known)}"


def _all_registries() -> list[Registry]:
    """List this project's registries, then mmengine's roots."""
    found: list[Registry] = []
    for module in (own_registry, root_registry):
        found += [value for value in vars(module).values() if isinstance(value, Registry)]
    return found


@functools.cache
def _resolve(name: str) -> list[Callable]:
    """Find every component that a type name may stand for, in any registry."""
    found: list[Callable] = []
    for registry in _all_registries():
        component = registry.get(name)
        # A name that no registry knows may be that of a module, which builds nothing.
        if callable(component) and component not in found:
            found.append(component)
    return found


def _all_names() -> set[str]:
    """List every type name known, those of other packages with their scope."""
    names: set[str] = set()
    for registry in _all_registries():
        names.update(registry.module_dict)
        for scope, child in registry.children.items():
            names.update(f'{scope}.{name}' for name in child.module_dict)
    return names


def _component_problems(value: object, path: str) -> Iterator[str]:
    """Check the type and the keys of every component below ``value``."""
    if isinstance(value, dict) and 'type' in value:
        kind = value['type']
        components = _resolve(kind) if isinstance(kind, str) else [kind]
        if not isinstance(kind, str) and not callable(kind):
            yield f'{path}.type: must be the name of a type, got {kind!r}'
        elif not components:
            yield f"{path}.type: '{kind}' is in no registry{hint(kind, _all_names())}"
        else:
            yield from _unknown_arguments(value, components, path)
            if len(components) == 1:
                yield from type_problems(value, components[0], path)
    elif isinstance(value, (list, tuple)) and any(map(_is_component, value)):
        for position, child in enumerate(value):
            if not _is_component(child) and not callable(child):
                yield f'{path}[{position}]: must be a dict with a type, got {child!r}'
    for key, child in children(value):
        yield from _component_problems(child, join_path(path, key))


def _is_component(value: object) -> bool:
    return isinstance(value, dict) and 'type' in value


def arguments_of(component: Callable) -> set[str] | None:
    """List the keywords a component takes; None when it takes any."""
    if not inspect.isclass(component):
        names, rest = _keywords(component)
        return names if rest is None else None
    known: set[str] = set()
    for owner in component.__mro__[:-1]:  # without `object`, which takes nothing
        if '__init__' not in vars(owner):
            continue
        names, rest = _keywords(owner.__init__)
        known |= names
        if rest is None:
            return known - {'self'}
        if not _forwards_to_super(owner.__init__, rest):
            return None
    return known - {'self'}


def _keywords(function: Callable) -> tuple[set[str], str | None]:
    """Split a signature into its named parameters and the name of its ``**kwargs``."""
    parameters = inspect.signature(function).parameters.values()
    rest = [p.name for p in parameters if p.kind is p.VAR_KEYWORD]
    names = {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    return names, rest[0] if rest else None


def _forwards_to_super(init: Callable, rest: str) -> bool:
    """Tell whether ``**kwargs`` goes to ``super().__init__`` and nowhere else."""
    if not inspect.isfunction(init):
        return False
    nodes = list(ast.walk(ast.parse(textwrap.dedent(inspect.getsource(init)))))
    uses = [node for node in nodes if isinstance(node, ast.Name) and node.id == rest]
    forwarded = [
        keyword for node in nodes
        if isinstance(node, ast.Call) and ast.unparse(node.func) == 'super().__init__'
        for keyword in node.keywords if keyword.arg is None and keyword.value in uses
    ]
    return len(uses) == len(forwarded) == 1


def _unknown_arguments(value: dict, components: list[Callable], path: str) -> Iterator[str]:
    """Find keys that no component of this name takes."""
    accepted = [arguments_of(component) for component in components]
    if None in accepted:
        return
    consumed = (*COMMON_KEYS, *CONSUMED_KEYS.get(path.split('.')[0].split('[')[0], ()))
    given = [key for key in value if key not in consumed]
    if any(known.issuperset(given) for known in accepted):
        return
    for key in given:
        if key not in accepted[0]:
            yield (f"{path}.{key}: {components[0].__name__} takes no '{key}'"
                   f'{hint(key, accepted[0])}')


def _loader_problems(loader: dict | None, path: str) -> Iterator[str]:
    """Find keys and values of a data loader that torch's DataLoader does not take."""
    known = {*inspect.signature(DataLoader).parameters, *LOADER_KEYS}
    for where, child in named_loaders(loader, path):
        if not isinstance(child, dict) or 'dataset' not in child:
            yield f'{where}: a data loader is a dict with a dataset'
            continue
        for key in child:
            if key not in known:
                yield f"{where}.{key}: a data loader takes no '{key}'{hint(key, known)}"
        if isinstance(child['dataset'], str):
            yield (f"{where}.dataset: '{child['dataset']}' is a name; read the config with "
                   'mvp_mm.engine.load_config')
        yield from loader_type_problems(child, DataLoader, where)
