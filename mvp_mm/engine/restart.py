# Copyright (c) mvp_mm authors. All rights reserved.
"""Continue a run whose ranks torchrun has started again."""
from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from torch.distributed import TCPStore

from mvp_mm.engine.config_error import ConfigError
from mvp_mm.engine.latest_checkpoint import find_resumable, list_checkpoints

# HOST:PORT of the store at which the nodes meet, set by tools/dist_train.sh.
RENDEZVOUS = 'MVP_MM_RENDEZVOUS'
_KEY = 'mvp_mm/checkpoints at the launch'
_TIMEOUT = timedelta(seconds=60)


def restarts_allowed() -> bool:
    """Whether torchrun starts the ranks again when one is lost (``--max-restarts``)."""
    return int(os.environ.get('TORCHELASTIC_MAX_RESTARTS', 0)) > 0


def find_own_checkpoint(folder: str | Path,
                        tell: Callable[[str], None] = print) -> str | None:
    """Find the newest checkpoint that this launch of torchrun has saved.

    After a rank is lost torchrun starts all ranks again with the same arguments. Its restart
    counts differ between the nodes, so the ranks compare the folder with a list of the
    checkpoints that were there at the launch. The list is kept in the store at which the nodes
    meet, which outlives the ranks: no clock is read, and a checkpoint of an earlier run in the
    same folder is not taken for one of this run.

    Args:
        folder: The run folder, seen by all nodes.
        tell: Called with one line per checkpoint that is passed over.

    Returns:
        Its path; None if there is none yet.

    Raises:
        ConfigError: If the store is not known, or if none of the checkpoints of this launch can
            be continued.
    """
    host, _, port = os.environ.get(RENDEZVOUS, '').rpartition(':')
    if not host:
        raise ConfigError('torchrun --max-restarts would begin the run anew after a lost rank: '
                          'add --resume, or start it by MAX_RESTARTS=N tools/dist_train.sh')
    store = TCPStore(host, int(port), is_master=False, timeout=_TIMEOUT)
    # The first rank to come writes the list; no rank can save before all have read it.
    listed = store.compare_set(_KEY, '', json.dumps(list_checkpoints(folder)))
    return find_resumable(folder, tell, known=[tuple(entry) for entry in json.loads(listed)])
