# Copyright (c) mvp_mm authors. All rights reserved.
"""Kills runs again and again; each must end with the weights of a run that nobody killed.

Example::

    python -m tests.fault_suite --kills 50 --terms 20

Runs of a small model are started by ``tools/train.py --resume``, with one and two ranks and with
one and two checkpoints kept, and killed at random moments; every second time as soon as a file is
being written. It prints one line per chain of kills and ends with exit code 0 if all final
weights and moments are equal, bit by bit.
"""
from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

import mvp_mm.engine  # noqa: F401  imported once, before processes are forked
import mvp_mm.models  # noqa: F401
from tests.helpers import ROOT
from tests.test_engine import toys  # noqa: F401

FORK = multiprocessing.get_context('fork')
SIGNALS = dict(kill=signal.SIGKILL, term=signal.SIGTERM)
CONFIG = """
_base_ = '{root}/configs/_base_/default_runtime.py'
custom_imports = dict(imports=['tests.test_engine.toys'])
model = dict(type='ToyModel', width=100000, noise=0.1)
_loader = dict(batch_size=2, num_workers=0, dataset=dict(type='ToyDataset'),
               collate_fn=dict(type='default_collate'))
train_dataloader = dict(**_loader, sampler=dict(type='InfiniteSampler'))
train_cfg = dict(type='IterBasedTrainLoop', max_iters={iterations}, val_interval=10**6)
optim_wrapper = dict(type='AutocastOptimWrapper', dtype=None, accumulative_counts=2,
                     optimizer=dict(type='AdamW', lr=1e-3), clip_grad=dict(max_norm=1.0))
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=False, end={iterations})]
default_hooks = dict(
    logger=dict(interval=1000), handover=dict(allow_frozen_random_init=['encoder']),
    checkpoint=dict(interval=1, max_keep_ckpts={keep}, asynchronous={asynchronous}))
log_level = 'ERROR'
"""


@dataclass
class Chain:
    """A run that is killed and resumed until it is done.

    Attributes:
        ranks: Number of ranks.
        keep: Number of checkpoints kept.
        kind: 'kill' or 'term'.
        wanted: How often it is to be killed.
        hits: How often it was, at each of: 'any' moment, while 'saving'.
        problems: What went wrong.
    """

    ranks: int
    keep: int
    kind: str
    wanted: int
    hits: dict[str, int] = field(default_factory=lambda: dict(any=0, saving=0))
    problems: list[str] = field(default_factory=list)


def _train(arguments: list[str], output: Path, rank: int, ranks: int, meeting: str) -> None:
    """Run ``tools/train.py`` in this process."""
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout = os.fdopen(1, 'w', closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(2, 'w', closefd=False)
    torch.set_num_threads(1)
    if ranks > 1:
        arguments = [*arguments, '--launcher', 'pytorch']
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks),
                          LOCAL_WORLD_SIZE=str(ranks), MASTER_ADDR='127.0.0.1',
                          MASTER_PORT=meeting)
    sys.argv = ['train.py', *arguments]
    spec = importlib.util.spec_from_file_location('train', ROOT / 'tools/train.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main()


def start(config: Path, folder: Path, ranks: int, port: int) -> list[multiprocessing.Process]:
    """Start or resume a run; one process per rank."""
    arguments = [str(config), '--work-dir', str(folder), '--resume']
    processes = [FORK.Process(target=_train, args=(
        arguments, folder.with_suffix('.log'), rank, ranks, str(port))) for rank in range(ranks)]
    for process in processes:
        process.start()
    return processes


def wait(processes: list[multiprocessing.Process], folder: Path,
         seconds: float = 120) -> list[int | None]:
    """Wait for a run as long as it saves.

    Args:
        processes: Its ranks.
        folder: The folder of its checkpoints.
        seconds: How long it may go without a new checkpoint; then it is killed.

    Returns:
        Exit codes; None for a process that was killed here.
    """
    newest, since = '', time.monotonic()
    while any(process.is_alive() for process in processes):
        now = max((path.name for path in folder.glob('iter_*.pth')), key=_iteration, default='')
        if now != newest:
            newest, since = now, time.monotonic()
        if time.monotonic() > since + seconds:
            break
        time.sleep(0.05)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
    return codes


def _iteration(name: str) -> int:
    return int(Path(name).stem.removeprefix('iter_'))


def being_written(folder: Path) -> bool:
    """Whether a temporary file of a save lies there."""
    return any(True for _ in folder.glob('.*.part'))


def strike(chain: Chain, processes: list[multiprocessing.Process], folder: Path,
           rng: random.Random) -> bool:
    """Kill a run at a random moment, or when it saves; False if it was done before."""
    saving = chain.kind == 'kill' and sum(chain.hits.values()) % 2 == 1
    before = {path.name for path in folder.glob('iter_*.pth')}
    delay = time.monotonic() + 60
    while all(process.is_alive() for process in processes) and time.monotonic() < delay:
        if {path.name for path in folder.glob('iter_*.pth')} - before:
            break
        time.sleep(0.002)
    until = time.monotonic() + rng.uniform(0, 0.3)
    while time.monotonic() < until or (saving and not being_written(folder)):
        if not all(process.is_alive() for process in processes):
            break
        time.sleep(0.0005)
    caught = being_written(folder)
    if not all(process.is_alive() for process in processes):
        return False
    hit = processes if chain.kind == 'term' else [rng.choice(processes)]
    for process in hit:
        os.kill(process.pid, SIGNALS[chain.kind])
    chain.hits['saving' if caught else 'any'] += 1
    return True


def run_chain(chain: Chain, config: Path, folder: Path, rng: random.Random,
              port: int) -> dict[str, torch.Tensor]:
    """Kill and resume a run until it is done; its final state."""
    for attempt in range(chain.wanted + 1):
        processes = start(config, folder, chain.ranks, port + attempt)
        struck = attempt < chain.wanted and strike(chain, processes, folder, rng)
        codes = wait(processes, folder)
        if None in codes:
            chain.problems.append(f'attempt {attempt}: a rank did not end')
        if not struck and any(codes):
            chain.problems.append(f'attempt {attempt}: exit codes {codes}')
            break
        if struck and chain.kind == 'term' and set(codes) != {75}:
            chain.problems.append(f'attempt {attempt}: exit codes {codes} after SIGTERM')
        if not struck:
            break
    return final_state(folder)


def final_state(folder: Path) -> dict[str, torch.Tensor]:
    """Weights and moments of the last checkpoint."""
    paths = sorted(folder.glob('iter_*.pth'), key=lambda path: _iteration(path.name))
    if not paths:
        return {}
    checkpoint = torch.load(paths[-1], map_location='cpu', weights_only=False)
    moments = {f'{index}.{key}': value for index, entry in checkpoint['optimizer']['state'].items()
               for key, value in entry.items()}
    return {'iter': torch.tensor(checkpoint['meta']['iter']), **checkpoint['state_dict'],
            **moments}


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether two states are the same, bit by bit."""
    return bool(first) and first.keys() == second.keys() and all(
        torch.equal(first[key], second[key]) for key in first)


def main(argv: list[str] | None = None) -> None:
    """Run all chains."""
    parser = argparse.ArgumentParser(description='Kill runs and compare what they end with')
    parser.add_argument('--kills', type=int, default=50, help='kill -9 in all')
    parser.add_argument('--terms', type=int, default=20, help='SIGTERM in all')
    parser.add_argument('--iterations', type=int, default=400, help='length of a run')
    parser.add_argument('--asynchronous', action='store_true', help='save in a thread')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--port', type=int, default=29700, help='first of some free ports')
    args = parser.parse_args(argv)
    rng = random.Random(args.seed)
    shapes = [(ranks, keep) for ranks in (1, 2) for keep in (1, 2)]
    chains = [Chain(*shape, kind, len(range(position, total, len(shapes))))
              for kind, total in (('kill', args.kills), ('term', args.terms))
              for position, shape in enumerate(shapes)]
    lost = 0
    with tempfile.TemporaryDirectory() as place:
        expected = {}
        for number, chain in enumerate(chains):
            config = Path(place) / f'toy_{chain.keep}.py'
            config.write_text(CONFIG.format(
                root=ROOT, iterations=args.iterations, keep=chain.keep,
                asynchronous=args.asynchronous))
            port = args.port + 100 * number
            if chain.ranks not in expected:
                straight = Path(place) / f'straight_{chain.ranks}'
                codes = wait(start(config, straight, chain.ranks, port + 99), straight)
                if any(codes):
                    sys.exit(f'the undisturbed run failed: {codes}\n'
                             f'{straight.with_suffix(".log").read_text()[-2000:]}')
                expected[chain.ranks] = final_state(straight)
            folder = Path(place) / f'{chain.kind}_{number}'
            state = run_chain(chain, config, folder, rng, port)
            if not equal(state, expected[chain.ranks]):
                chain.problems.append(
                    f'other final weights, at iteration {int(state.get("iter", -1))}')
            lost += bool(chain.problems)
            print(f'{chain.kind} ranks={chain.ranks} keep={chain.keep}: struck '
                  f'{sum(chain.hits.values())} of {chain.wanted} times, {chain.hits["saving"]} of '
                  f'them in a save: {"; ".join(chain.problems) or "held"}', flush=True)
            if chain.problems:
                print(folder.with_suffix('.log').read_text()[-3000:])
    print(f'{len(chains)} chains, {lost} lost')
    sys.exit(bool(lost))


if __name__ == '__main__':
    main()
