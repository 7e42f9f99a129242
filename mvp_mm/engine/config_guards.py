# Copyright (c) mvp_mm authors. All rights reserved.
"""The hooks that stop a run before harm is done, and how hooks are left out."""
from __future__ import annotations

from collections.abc import Iterator

from mmengine.config import Config

# Hooks that None switches off, and whose types mmengine knows.
_MMENGINE_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler',
                   'checkpoint')
# Hooks that stop a run before harm is done, with what happens without them.
GUARDS = {
    'StartCheckHook': 'tokenizer and LLM are not compared before training',
    'StageCheckpointHook': 'weights that start at random unseen are not refused',
    'FiniteStepHook': 'a step that is not finite stops the run and does not name its images',
    'ExactResumeHook': 'a resumed run draws the random numbers of its first steps again',
    'WatchdogHook': 'a run that is stuck does not end',
    'VerifiedCheckpointHook': 'a save that is cut short may cost the last checkpoint',
}


def missing_guards(cfg: Config) -> list[str]:
    """Name the guards of training that a config leaves out.

    Args:
        cfg: The config.

    Returns:
        One line each, saying what goes unnoticed.
    """
    hooks = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]
    present = {hook.get('type') for hook in hooks if isinstance(hook, dict)}
    return [f'no {kind}: {risk}' for kind, risk in GUARDS.items() if kind not in present]


def hook_problems(cfg: Config) -> Iterator[str]:
    """Find hooks that are no hooks, or None where mmengine cannot switch them off."""
    hooks = cfg.get('default_hooks') or {}
    for name, hook in hooks.items() if isinstance(hooks, dict) else ():
        typed = isinstance(hook, dict) and ('type' in hook or name in _MMENGINE_HOOKS)
        if hook is not None and not typed:
            yield f'default_hooks.{name}: must be a dict with a type, got {hook!r}'
        elif hook is None and name not in _MMENGINE_HOOKS:
            yield (f"default_hooks.{name}: None switches off mmengine's own hooks alone "
                   f"({', '.join(_MMENGINE_HOOKS)}); leave this one out by "
                   'default_hooks=dict(_delete_=True, ...) in a config')
