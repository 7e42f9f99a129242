# Copyright (c) mvp_mm authors. All rights reserved.
"""Find out where every parameter of a model comes from before it is trained."""
from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.modules.batchnorm import _NormBase

from mvp_mm.converters.layouts import layout_of
from mvp_mm.engine.checkpoint import count_by_part, prefixes, pretrained_parts
from mvp_mm.utils.checkpoint_io import CheckpointError, read_weights

RANDOM, NORMS = 'random', 'norms at 1 and 0'
_CONVERT = ('it is a file of {layout}: bring it into our layout with '
            'tools/model_converters/convert_weights.py CONFIG {file} --encoder-only --out NEW.pth, '
            'and start with --load-from NEW.pth instead of init_cfg')
_WATCHES: WeakKeyDictionary[nn.Module, InitFiles] = WeakKeyDictionary()


class InitFiles:
    """Notes which tensors the files of ``init_cfg=dict(type='Pretrained')`` give to a model.

    mmengine and mmdet load such a file with ``strict=False`` and drop the report: a file without
    one weight of the part would go unnoticed. To be made before the model is initialised.

    Args:
        model: The model.

    Attributes:
        given: File by the name of each tensor that was taken over.

    Raises:
        FileNotFoundError: If a file is missing.
        CheckpointError: If a file cannot be read, or its layout is another.
    """

    def __init__(self, model: nn.Module) -> None:
        self.given: dict[str, str] = {}
        self._handles = []
        for name, part in model.named_modules():
            file = pretrained_file(getattr(part, 'init_cfg', None))
            if file is not None:
                _check_layout(name, part, file)
                self._handles.append(part.register_load_state_dict_pre_hook(
                    self._noting(name, part, file)))

    def _noting(self, name: str, part: nn.Module, file: str):
        def note(module: nn.Module, state: dict[str, Tensor], prefix: str, *_) -> None:
            if prefix:
                return  # a checkpoint of the whole model
            own = part.state_dict()
            fits = [key for key in own if key in state and own[key].shape == state[key].shape]
            wrong = sorted(key for key in own.keys() & state.keys() if key not in fits)
            where = f'model.{name}'.rstrip('.')
            if wrong:
                key = wrong[0]
                raise CheckpointError(
                    f'{file} does not fit {where}: {len(wrong)} tensors have other shapes, the '
                    f'first is {key}: file {tuple(state[key].shape)}, model '
                    f'{tuple(own[key].shape)}')
            if not fits:
                raise CheckpointError(
                    f'{file} holds not one weight of {where} (init_cfg): it would stay at random '
                    f'values. The file has {count_by_part(list(state))}, {where} has '
                    f'{count_by_part(list(own))}')
            self.given.update({f'{name}.{key}'.lstrip('.'): file for key in fits})

        return note

    def close(self) -> None:
        """Stop watching; the model is initialised."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


def watch_init_files(model: nn.Module) -> InitFiles:
    """Watch a model's initialisation, once however often it is asked for."""
    if model not in _WATCHES:
        _WATCHES[model] = InitFiles(model)
    return _WATCHES[model]


def pretrained_file(init_cfg: dict | list | None) -> str | None:
    """The file that mmengine's initialisation reads; None where it draws all values."""
    steps = init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg or {}]
    return next((step['checkpoint'] for step in steps if step.get('type') == 'Pretrained'), None)


def _check_layout(name: str, part: nn.Module, file: str) -> None:
    """Refuse files at which mmdet's Swin would stop with an error of its own."""
    state = read_weights(file)
    if type(part).__name__ != 'SwinTransformer':
        return
    layout = layout_of(state)
    title = layout.title if layout else None
    where = f'model.{name}'
    if title == 'timm':
        raise CheckpointError(f'{file} does not fit {where} (init_cfg): '
                              + _CONVERT.format(layout=title, file=file))
    if part.convert_weights or any(key.startswith('backbone.') for key in state):
        return
    hint = (f'; it has the names of {title}: set {where}.convert_weights=True'
            if title == "Swin's authors" else '')
    raise CheckpointError(f'{file} holds not one weight of {where} (init_cfg): no name begins '
                          f'with backbone.{hint}')


def find_sources(model: nn.Module, files: Mapping[str, str]) -> dict[str, str]:
    """Name the source of every parameter.

    Args:
        model: The model, initialised and loaded.
        files: File by the name of each tensor that was read from one.

    Returns:
        File, folder, ``random`` or ``norms at 1 and 0`` by the name of the parameter. A norm at
        its neutral values is not random, whoever leaves it out.
    """
    folders = pretrained_parts(model)
    norms = _neutral_norms(model)
    found = {}
    for name, _ in model.named_parameters():
        folder = next((str(folder) for part, folder in folders.items()
                       if not part or name.startswith(f'{part}.')), None)
        found[name] = files.get(name) or folder or (NORMS if name in norms else RANDOM)
    return found


def _neutral_norms(model: nn.Module) -> set[str]:
    """Names of the parameters of norms that change nothing: scales of 1, shifts of 0."""
    found = set()
    for prefix, module in model.named_modules():
        if not isinstance(module, (nn.LayerNorm, nn.GroupNorm, _NormBase)):
            continue
        for name, parameter in module.named_parameters(recurse=False):
            value = 1.0 if name == 'weight' else 0.0
            whole = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
            if bool((whole.detach() == value).all()):
                found.add(f'{prefix}.{name}'.lstrip('.'))
    return found


def source_table(model: nn.Module, sources: Mapping[str, str]) -> str:
    """One row for each part of a model, source and state: tensors, parameters.

    Args:
        model: The model.
        sources: From :func:`find_sources`.
    """
    rows: dict[tuple[str, str, str], list[int]] = {}
    for name, parameter in model.named_parameters():
        state = 'trained' if parameter.requires_grad else 'frozen'
        row = rows.setdefault((name.split('.')[0], sources[name], state), [0, 0])
        row[0] += 1
        row[1] += parameter.numel()
    width = max(len(part) for part, _, _ in rows)
    lines = [f'{"part":<{width}}  {"tensors":>7}  {"parameters":>14}  {"state":<7}  source']
    lines += [f'{part:<{width}}  {tensors:>7}  {numbers:>14,}  {state:<7}  {source}'
              for (part, source, state), (tensors, numbers) in rows.items()]
    return '\n'.join(lines)


def random_parts(sources: Mapping[str, str], parts: Collection[str]) -> list[str]:
    """Those of some parts of which not one tensor was read from anywhere."""
    found = []
    for part in parts:
        inside = [source for name, source in sources.items() if name.startswith(f'{part}.')]
        if inside and all(source in (RANDOM, NORMS) for source in inside):
            found.append(part)
    return found


def random_and_frozen(model: nn.Module, sources: Mapping[str, str],
                      allowed: Collection[str]) -> list[str]:
    """Names of the frozen parameters at random values outside of some parts."""
    known = prefixes(allowed)
    return [name for name, parameter in model.named_parameters()
            if not parameter.requires_grad and sources[name] == RANDOM
            and not name.startswith(known)]


def shown(path: str | Path) -> str:
    """A path as it is shown in the table: relative to the working folder where that is shorter."""
    path = Path(path).resolve()
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
