# Copyright (c) mvp_mm authors. All rights reserved.
"""mmengine's runner with a start that shows what matters."""
from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.fileio import get_file_backend
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from mvp_mm.engine.replaced_weights import build_model, names_given
from mvp_mm.engine.run_state import ConfigText, gather_state
from mvp_mm.engine.same_run import check_same_run
from mvp_mm.engine.saving import VerifiedBackend
from mvp_mm.registry import RUNNERS
from mvp_mm.utils.noise import is_no_noise

# How mmengine's messages of tens and hundreds of lines begin.
_FOR_FILES = ('Config:\n', 'Hooks will be executed in the following order:\n',
              f'\n{"-" * 60}\nSystem environment:')


class DatasetError(ValueError):
    """A dataset that cannot be opened; the message names the file."""


@RUNNERS.register_module(name='Runner')
class PerceptionRunner(Runner):
    """mmengine's runner; config, environment and list of hooks go to the log file alone."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        self._config_text = ConfigText()
        super().__init__(*args, **settings)

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build the logger; its screen leaves out the messages that are for the file."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            handler.addFilter(is_no_noise)
            if isinstance(handler, logging.StreamHandler) and not isinstance(
                    handler, logging.FileHandler):
                handler.addFilter(ScreenFilter())
        return logger

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the model; files that the checkpoint to be loaded replaces are not read."""
        if isinstance(model, dict):
            return build_model(model, names_given(self._load_from))
        return super().build_model(model)

    @staticmethod
    def build_dataloader(dataloader: DataLoader | dict, *args: Any, **kwargs: Any) -> DataLoader:
        """Build a data loader, see :meth:`mmengine.runner.Runner.build_dataloader`.

        Raises:
            DatasetError: If its files cannot be used.
        """
        try:
            return Runner.build_dataloader(dataloader, *args, **kwargs)
        except (ValueError, OSError) as error:
            raise DatasetError(str(error)) from error

    def resume(self, filename: str, resume_optimizer: bool = True,
               resume_param_scheduler: bool = True, map_location: Any = 'default') -> None:
        """Resume; the checkpoint is read to the host's memory.

        On the device it would stand beside the weights and moments that it is copied to.
        """
        where = 'cpu' if map_location == 'default' else map_location
        super().resume(filename, resume_optimizer, resume_param_scheduler, where)

    @master_only
    def save_checkpoint(self, out_dir: str, filename: str, file_client_args: dict | None = None,
                        save_optimizer: bool = True, save_param_scheduler: bool = True,
                        meta: dict | None = None, by_epoch: bool = True,
                        backend_args: dict | None = None) -> None:
        """Save a checkpoint, see :meth:`mmengine.runner.Runner.save_checkpoint`.

        A hook that verifies its files is given the state of the run, mmengine's is given bytes.
        """
        backend = get_file_backend(out_dir, backend_args=backend_args)
        if not isinstance(backend, VerifiedBackend):
            super().save_checkpoint(out_dir, filename, file_client_args, save_optimizer,
                                    save_param_scheduler, meta, by_epoch, backend_args)
            return
        state = gather_state(self, self._config_text(self.cfg), meta, by_epoch, save_optimizer,
                             save_param_scheduler)
        backend.writer.write(state, Path(out_dir) / filename)

    def dump_config(self) -> None:
        """Write the config into the run's folder.

        Raises:
            CheckpointError: If the run that is resumed there is another one.
        """
        check_same_run(self.cfg, self.work_dir, self.logger.warning)
        super().dump_config()
        name = Path(self.cfg.filename).name if self.cfg.filename else f'{self.timestamp}.py'
        self.logger.info(f'Config: {Path(self.work_dir, name)}')


class ScreenFilter(logging.Filter):
    """Leaves out long messages, and those that repeat the one before."""

    def __init__(self) -> None:
        super().__init__()
        self._last = ''

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is shown."""
        message = record.getMessage()
        repeated, self._last = message == self._last, message
        return not repeated and not message.startswith(_FOR_FILES)
