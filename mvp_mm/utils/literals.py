# Copyright (c) mvp_mm authors. All rights reserved.
"""Read a dumped config as data: assignments of literals, nothing is run."""
from __future__ import annotations

import ast
from typing import Any


def read_literals(text: object) -> dict[str, Any]:
    """Evaluate assignments of literals, ``dict(key=value)`` among them.

    Args:
        text: A config as mmengine writes it into run folders and checkpoints.

    Returns:
        Settings by name.

    Raises:
        ValueError: If the text holds anything else; the message says what.
    """
    try:
        module = ast.parse(text)  # type: ignore[call-overload]
        return dict(_assignment(node) for node in module.body)
    except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ValueError(reason) from error


def _assignment(node: ast.stmt) -> tuple[str, Any]:
    if not isinstance(node, ast.Assign) or len(node.targets) != 1 \
            or not isinstance(node.targets[0], ast.Name):
        raise ValueError(f'line {node.lineno} is no assignment')
    return node.targets[0].id, _value(node.value)


def _value(node: ast.expr) -> Any:
    """The value of a literal, or of a dict or list of such ones."""
    if isinstance(node, ast.Dict):
        return {_key(key, node): _value(value)
                for key, value in zip(node.keys, node.values, strict=True)}
    if isinstance(node, (ast.List, ast.Tuple)):
        values = [_value(item) for item in node.elts]
        return values if isinstance(node, ast.List) else tuple(values)
    if not isinstance(node, ast.Call):
        return ast.literal_eval(node)
    named = isinstance(node.func, ast.Name) and node.func.id == 'dict'
    if not named or len(node.args) > 1 or not all(isinstance(arg, ast.Dict) for arg in node.args):
        raise ValueError(f'line {node.lineno} calls something')
    result = _value(node.args[0]) if node.args else {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise ValueError(f'line {node.lineno} unpacks something')
        result[keyword.arg] = _value(keyword.value)
    return result


def _key(key: ast.expr | None, node: ast.expr) -> Any:
    if key is None:
        raise ValueError(f'line {node.lineno} unpacks something')
    return ast.literal_eval(key)
