# Copyright (c) mvp_mm authors. All rights reserved.
"""Run a batch again that gave losses or gradients which were not finite.

Example::

    python tools/misc/replay_batch.py configs/mvplm/stage2.py \
        work_dirs/stage2/non_finite/iter_1200_rank0.pth --checkpoint work_dirs/stage2/iter_1000.pth
"""
from __future__ import annotations

import argparse
import sys

from mmengine.config import DictAction
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

from mvp_mm.engine.batch_dumps import read_dump
from mvp_mm.engine.checkpoint import load_stage_checkpoint
from mvp_mm.engine.config_error import ConfigError
from mvp_mm.engine.config_loading import load_config
from mvp_mm.engine.replay import replay
from mvp_mm.registry import MODELS


def main(argv: list[str] | None = None) -> None:
    """Replay."""
    parser = argparse.ArgumentParser(description='Replay the batches of a bad training step')
    parser.add_argument('config', help='config of the run')
    parser.add_argument('dump', help='file in the folder non_finite of the run')
    parser.add_argument('--checkpoint', help='weights; without them those that the model begins '
                        'with')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
                        help='override settings of the config')
    args = parser.parse_args(argv)
    try:
        dump = read_dump(args.dump)
        cfg = load_config(args.config, args.cfg_options)
    except (FileNotFoundError, ValueError, ConfigError) as error:
        sys.exit(f'replay_batch: error: {error}')
    init_default_scope(cfg.get('default_scope', 'mvp_mm'))
    model = MODELS.build(cfg.model)
    if hasattr(model, 'init_weights'):
        model.init_weights()
    if args.checkpoint:
        load_stage_checkpoint(model, args.checkpoint)
    model.to(args.device)
    print(f'{args.dump}: {dump.message}\nSeed {dump.seed}, rank {dump.rank} of '
          f'{dump.world_size}')
    for one in replay(model, build_optim_wrapper(model, cfg.optim_wrapper), dump):
        print(one)


if __name__ == '__main__':
    main()
