# Copyright (c) mvp_mm authors. All rights reserved.
"""What the training and the test command share: options, work folder, process group."""
import argparse
import os
from pathlib import Path

import torch
from mmengine.config import Config, DictAction

from mvp_mm.engine.config_check import ConfigError
from mvp_mm.engine.wrappers import init_cpu_process_group


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of both commands."""
    parser.add_argument('--work-dir', help='folder of logs and results; '
                        'default ./work_dirs/<config name>')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
        help='override settings of the config, such as optim_wrapper.optimizer.lr=1e-4; '
        'lists as key="[a,b]" or key=a,b')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0,
                        help='set by the launcher')


def load_config(args: argparse.Namespace) -> Config:
    """Read the config, merge the command line in.

    Args:
        args (argparse.Namespace): Parsed options, with ``config`` besides the common ones.

    Returns:
        Config: The config with ``work_dir`` and ``launcher`` set.
    """
    if not Path(args.config).is_file():
        raise ConfigError(f'config not found: {args.config}')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = Config.fromfile(args.config)
    # Names with an underscore serve the files alone; without them the dumped config is half as
    # long, and nobody overrides one and wonders why nothing changes.
    for name in [name for name in cfg if name.startswith('_')]:
        cfg.pop(name)
    if args.cfg_options:
        private = [name for name in args.cfg_options if name.startswith('_')]
        if private:
            raise ConfigError(f'--cfg-options {private[0]}: a helper of the config files, which '
                              'has no effect here; override what it is used for')
        cfg.merge_from_dict(args.cfg_options)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(
        Path('work_dirs') / Path(args.config).stem)
    return cfg


def prepare_processes(cfg: Config) -> None:
    """Start the process group on the CPU where there is no CUDA.

    With CUDA mmengine's Runner does this itself.
    """
    if cfg.launcher != 'none' and not torch.cuda.is_available():
        cfg.merge_from_dict({'env_cfg.dist_cfg.backend': 'gloo'})
        init_cpu_process_group(cfg.launcher)
