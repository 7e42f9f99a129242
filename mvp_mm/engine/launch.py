# Copyright (c) mvp_mm authors. All rights reserved.
"""What the training and the test command share: options, work folder, process group."""
from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.config import Config, DictAction

from mvp_mm.datasets.tolerant import TooManyBadSamples
from mvp_mm.engine.config_error import ConfigError
from mvp_mm.engine.config_loading import load_config
from mvp_mm.engine.runner import DatasetError
from mvp_mm.engine.threads import set_threads
from mvp_mm.engine.watchdog import end_with_launcher
from mvp_mm.engine.wrappers import init_cpu_process_group
from mvp_mm.utils.atomic import WriteError
from mvp_mm.utils.checkpoint_io import CheckpointError


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of both commands."""
    parser.add_argument('--work-dir', help='folder of logs and results; '
                        'default ./work_dirs/<place below configs/mvplm>')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
        help='override settings of the config, such as optim_wrapper.optimizer.lr=1e-4; '
        'lists as key="[a,b]" or key=a,b')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0,
                        help='set by the launcher')


def config_from_args(args: argparse.Namespace) -> Config:
    """Load the config that a command line names.

    Args:
        args: Parsed options, with ``config`` besides the common ones.

    Returns:
        The config that runs, with ``work_dir`` and ``launcher`` set.

    Raises:
        ConfigError: See :func:`~mvp_mm.engine.config_loading.load_config`.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = load_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(default_work_dir(args.config))
    return cfg


def default_work_dir(config: str | Path) -> Path:
    """Name the folder of a config's runs, one per config.

    Args:
        config: A config file.

    Returns:
        Below ``work_dirs``, the config's place below its ``configs`` folder: ``plus/stage2`` for
        ``configs/mvplm/plus/stage2.py``. A config that a run has written belongs to the folder
        of that run; any other has its own name, or, merely called ``config.py``, its folder's.
    """
    path = Path(config).resolve().with_suffix('')
    folders = path.parent.parts
    if 'configs' in folders:
        inner = path.parts[_last(folders, 'configs') + 1:]
        place = Path(*inner[inner[0] == 'mvplm':])
    elif 'work_dirs' in folders[:-1]:
        place = Path(*folders[_last(folders, 'work_dirs') + 1:])
    else:
        place = Path(path.parent.name if path.name == 'config' else path.name)
    return Path('work_dirs') / place


def _last(names: tuple[str, ...], name: str) -> int:
    return len(names) - 1 - names[::-1].index(name)


@contextmanager
def config_errors_in_one_line(command: str) -> Iterator[None]:
    """End the process with status 2 and the message on stderr at a :class:`ConfigError`.

    Args:
        command: Name that the message starts with.
    """
    try:
        yield
    except ConfigError as error:
        print(f'{command}: error: {error}', file=sys.stderr)
        sys.exit(2)


@contextmanager
def run_errors_in_one_line(command: str) -> Iterator[None]:
    """End the process with status 1 and one line at what a run's files are to blame for.

    Args:
        command: Name that the message starts with.
    """
    try:
        yield
    except (CheckpointError, DatasetError, WriteError) as error:
        sys.exit(f'{command}: error: {error}')
    except TooManyBadSamples as error:
        # A worker's error holds its traceback, and at the end its own text.
        sys.exit(f'{command}: error: ' + str(error).rsplit('TooManyBadSamples: ')[-1].strip())


def prepare_processes(cfg: Config, name: str, modes: Sequence[str]) -> None:
    """Set the threads of a process on the CPU, and start the process group there.

    With CUDA mmengine's Runner does this itself.

    Args:
        cfg: The config that runs.
        name: Name of the command.
        modes: ``train``, ``val``, ``test``: what it runs.
    """
    if cfg.launcher == 'none':
        set_threads(cfg, name, modes)
    if cfg.launcher != 'none':
        end_with_launcher()
    if cfg.launcher != 'none' and not torch.cuda.is_available():
        cfg.merge_from_dict({'env_cfg.dist_cfg.backend': 'gloo'})
        init_cpu_process_group(cfg.launcher, cfg.env_cfg.dist_cfg.get('timeout', 1800))


def leave_processes() -> None:
    """Leave the process group, where there is one, before Python ends.

    Gloo's threads would otherwise still run while their objects and memory are taken down: now
    and then a rank that had finished its work ended by SIGABRT or SIGSEGV.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
