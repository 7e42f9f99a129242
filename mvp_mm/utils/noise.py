# Copyright (c) mvp_mm authors. All rights reserved.
"""Silence the messages of libraries that say nothing to a user of this package."""
from __future__ import annotations

import importlib
import io
import logging
import warnings
from contextlib import redirect_stdout
from types import ModuleType

# Starts of messages: parts of mmdet that nobody asked for, new names of things that mmengine
# itself calls by the old ones, and mmdet's remark on weights that a checkpoint fills.
NOISE = ('Could not import OneDL', '"FileClient" will be deprecated',
         '"HardDiskBackend" is the alias', 'No pre-trained weights for ',
         'Distributed training is not used, all SyncBatchNorm', 'Line NMS is not compiled',
         'Using env variable `MVP_MM_CONFIGS`')
# Speed of kernels for widths that are the user's choice; operators that mmcv was built without and
# this package does not need.
_WARNINGS = ("You'd better set embed_dims in MultiScaleDeformAttention",
             'Fail to import ``MultiScaleDeformableAttention``')


def silence_warnings() -> None:
    """Ignore the known warnings, whoever raises them."""
    for start in _WARNINGS:
        warnings.filterwarnings('ignore', message=start)


def import_quietly(module: str) -> ModuleType:
    """Import a module of a library without the noise that it prints.

    Args:
        module: Its full name.

    Returns:
        The module.
    """
    printed = io.StringIO()
    with redirect_stdout(printed):
        found = importlib.import_module(module)
    for line in printed.getvalue().splitlines():
        if not line.startswith(NOISE):
            print(line)
    return found


def quiet_logger() -> None:
    """Leave the known messages out of mmengine's current logger."""
    from mmengine.logging import MMLogger
    MMLogger.get_current_instance().addFilter(is_no_noise)


def is_no_noise(record: logging.LogRecord) -> bool:
    """Whether a log record says something; a filter for loggers and handlers."""
    return not record.getMessage().startswith(NOISE)
