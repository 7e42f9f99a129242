# Copyright (c) mvp_mm authors. All rights reserved.
"""Works on all shards of a set of images, in this process or as a job of Ray Data.

Ray hands shards to actors, each of which loads the model once. The shards are those of the embedded
way: the same files, manifests and locks in a folder that all nodes see. So a job that was killed
goes on where it stopped, with Ray or without.
"""
from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from mvp_mm.captioning.backends import CaptionerError
from mvp_mm.captioning.run import RunReport
from mvp_mm.datasets.captions.shards import Shard

EXTRA = 'pip install "mvp_mm[scale]"'


def add_shard_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which shards are worked on, and where."""
    parser.add_argument('--shard', default='0/1', help='part i of n, counted from 0')
    ray = parser.add_argument_group('with Ray Data')
    ray.add_argument('--ray-shards', type=int, metavar='N',
                     help='work on all of N shards as a job of Ray Data, in place of --shard; on '
                     'the cluster of RAY_ADDRESS, else on this machine')
    ray.add_argument('--ray-actors', type=int, default=1, metavar='N',
                     help='processes that work on shards, each with a model of its own')
    ray.add_argument('--ray-gpus', type=float, default=0.0, metavar='N',
                     help='GPUs of each of these')


def work_on_shards(args: argparse.Namespace,
                   job: Callable[[], Callable[[Shard], RunReport]]) -> RunReport:
    """Do what the options of :func:`add_shard_arguments` ask for.

    Args:
        args: The options.
        job: Called once per process; what it returns works on a shard.

    Returns:
        What was done, over all shards.

    Raises:
        CaptionerError: If a shard cannot be worked on, or Ray is not installed.
        OSError: If a file is missing.
        ValueError: If an option is wrong, or another process works on the shard.
    """
    if args.ray_shards is None:
        return job()(Shard.parse(args.shard))
    for name in ('ray_shards', 'ray_actors'):
        if getattr(args, name) < 1:
            raise ValueError(f'--{name.replace("_", "-")} must be at least 1')
    return run_on_ray(job, args.ray_shards, args.ray_actors, args.ray_gpus)


def run_on_ray(job: Callable[[], Callable[[Shard], RunReport]], shards: int, actors: int = 1,
               gpus: float = 0.0) -> RunReport:
    """Work on all shards as a job of Ray Data.

    Args:
        job: See :func:`work_on_shards`; it is sent to the actors.
        shards: Number of shards.
        actors: Number of actors.
        gpus: GPUs per actor.

    Returns:
        What was done, over all shards.

    Raises:
        CaptionerError: If Ray is not installed; or if shards failed, after the others are done,
            with the first one's reason.
    """
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
    try:
        import ray
    except ImportError as error:
        raise CaptionerError(f'--ray-shards needs Ray Data: {EXTRA}') from error
    if not ray.is_initialized():
        ray.init(include_dashboard=False)
    rows = ray.data.range(shards, override_num_blocks=shards).map(
        _Worker, fn_constructor_args=(job, shards, os.getcwd()), num_gpus=gpus,
        compute=ray.data.ActorPoolStrategy(size=min(actors, shards)))
    done = [json.loads(row['done']) for row in rows.iter_rows()]
    failed = sorted((one['shard'], one['error']) for one in done if 'error' in one)
    if failed:
        raise CaptionerError(f'{len(failed)} of {shards} shards failed, first shard '
                             f'{failed[0][0]}/{shards}: {failed[0][1]}')
    return joined(RunReport(**one['report']) for one in done)


class _Worker:
    """Works on shards in an actor; an error of one is a row, so that the others go on."""

    def __init__(self, job: Callable[[], Callable[[Shard], RunReport]], shards: int,
                 folder: str) -> None:
        os.chdir(folder)  # where the command was typed: names of files may be relative
        self._shards = shards
        self._job = job
        self._work: Callable[[Shard], RunReport] | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        shard = Shard(int(row['id']), self._shards)
        try:
            self._work = self._work or self._job()
            done = dict(report=asdict(self._work(shard)))
        except (OSError, ValueError, CaptionerError) as error:
            done = dict(error=str(error))
        return dict(done=json.dumps(dict(done, shard=shard.index)))


def joined(reports: Iterable[RunReport]) -> RunReport:
    """Add up what was done to several shards."""
    total = RunReport(0, 0, 0, {}, {})
    for report in reports:
        total.images += report.images
        total.before += report.before
        total.captioned += report.captioned
        total.failed.update(report.failed)
        total.unanswered.update(report.unanswered)
    return total
