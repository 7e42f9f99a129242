# Copyright (c) mvp_mm authors. All rights reserved.
"""Reading weights and the config that a checkpoint carries, without running what is inside."""
from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner.checkpoint import get_torch_safe_globals

_LITERAL_NODES = (
    ast.Module, ast.Assign, ast.Name, ast.Load, ast.Store, ast.Constant, ast.List, ast.Tuple,
    ast.Dict, ast.Set, ast.Call, ast.keyword, ast.UnaryOp, ast.USub)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint onto the CPU as plain data.

    Args:
        path: File written by mmengine's runner, or a bare state dict.

    Returns:
        With ``state_dict`` and ``meta``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not a checkpoint, or holds objects other than data.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'No such weights file: {path}')
    try:
        with torch.serialization.safe_globals(get_torch_safe_globals()):
            checkpoint = torch.load(path, map_location='cpu', weights_only=True, mmap=True)
    except Exception as error:  # torch raises whatever the broken bytes provoke
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f'Cannot read {path} as a checkpoint: {reason}') from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f'{path} holds a {type(checkpoint).__name__}, not a checkpoint')
    if 'state_dict' not in checkpoint:
        checkpoint = dict(state_dict=checkpoint)
    return dict(checkpoint, meta=checkpoint.get('meta') or {})


def config_of(checkpoint: dict[str, Any], path: str | Path) -> Config:
    """The config that mmengine stored in a checkpoint.

    A config is Python, so only one made of literals is accepted: nothing in it can run.

    Args:
        checkpoint: From :func:`read_checkpoint`.
        path: Where it came from, for messages.

    Raises:
        ValueError: If there is none, or it is not made of literals.
    """
    text = checkpoint['meta'].get('cfg')
    if not text:
        raise ValueError(f'{path} stores no config: name one')
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except SyntaxError as error:
        raise ValueError(f'The config in {path} is not valid: {error.msg}') from error
    plain = all(isinstance(node, _LITERAL_NODES) for node in nodes) and all(
        isinstance(node.func, ast.Name) and node.func.id == 'dict'
        for node in nodes if isinstance(node, ast.Call))
    if not plain:
        raise ValueError(f'The config in {path} is more than literals: name one that you trust')
    return Config.fromstring(text, '.py')
