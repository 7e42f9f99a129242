# Copyright (c) mvp_mm authors. All rights reserved.
"""Continue a run that torchrun or Slurm has started again, with the arguments first typed."""
from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from torch.distributed import TCPStore

from mvp_mm.engine.config_error import ConfigError
from mvp_mm.engine.latest_checkpoint import describe_checkpoint, find_resumable, list_checkpoints
from mvp_mm.utils.checkpoint_io import peek_meta

# HOST:PORT of the store at which the nodes meet, set by tools/dist_train.sh.
RENDEZVOUS = 'MVP_MM_RENDEZVOUS'
# Names the job in the meta of its checkpoints.
JOB_KEY = 'slurm_job'
_KEY = 'mvp_mm/checkpoints at the launch'
_TIMEOUT = timedelta(seconds=60)


def slurm_job() -> str | None:
    """Name the Slurm job of this process, the same each time it is requeued; None without."""
    job = os.environ.get('SLURM_JOB_ID')
    return f'{os.environ.get("SLURM_CLUSTER_NAME", "")}/{job}' if job else None


def requeued() -> bool:
    """Whether Slurm has started the job of this process again."""
    return slurm_job() is not None and int(os.environ.get('SLURM_RESTART_COUNT') or 0) > 0


def may_be_restarted() -> bool:
    """Whether this start may be another one of the same launch, by torchrun or by Slurm.

    torchrun with ``--max-restarts`` does not tell all nodes alike whether it is.
    """
    return int(os.environ.get('TORCHELASTIC_MAX_RESTARTS', 0)) > 0 or requeued()


def find_own_checkpoint(folder: str | Path,
                        tell: Callable[[str], None] = print) -> str | None:
    """Find the newest checkpoint that this launch has saved.

    torchrun, after a rank is lost, and Slurm, after a node is lost or the job's time has ended,
    start all ranks again with the same arguments. A checkpoint of an earlier run in the same
    folder is not taken for one of this run, and no clock is read: checkpoints name the Slurm job
    that saved them, and torchrun's are those that were not there at the launch.

    Args:
        folder: The run folder, seen by all nodes.
        tell: Called with one line per checkpoint that is passed over.

    Returns:
        Its path; None if there is none yet.

    Raises:
        ConfigError: If the store of torchrun's nodes is not known, or if none of the checkpoints
            of this launch can be continued.
    """
    own: list[Callable[[Path], bool]] = []
    if requeued():
        own.append(lambda path: peek_meta(path).get(JOB_KEY) == slurm_job())
    if int(os.environ.get('TORCHELASTIC_MAX_RESTARTS', 0)) > 0:
        before = _listed_at_launch(folder)
        own.append(lambda path: describe_checkpoint(path) not in before)
    return find_resumable(folder, tell, wanted=lambda path: any(saved(path) for saved in own))


def _listed_at_launch(folder: str | Path) -> list[tuple[str, float]]:
    """The checkpoints that were there before torchrun started the ranks for the first time.

    The list is kept in the store at which the nodes meet, which outlives the ranks.
    """
    host, _, port = os.environ.get(RENDEZVOUS, '').rpartition(':')
    if not host:
        raise ConfigError('torchrun --max-restarts would begin the run anew after a lost rank: '
                          'add --resume, or start it by MAX_RESTARTS=N tools/dist_train.sh')
    store = TCPStore(host, int(port), is_master=False, timeout=_TIMEOUT)
    # The first rank to come writes the list; no rank can save before all have read it.
    listed = store.compare_set(_KEY, '', json.dumps(list_checkpoints(folder)))
    return [tuple(entry) for entry in json.loads(listed)]
