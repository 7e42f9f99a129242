# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from mvp_mm.engine.acceleration import AccelerationHook
from mvp_mm.engine.checkpoint import load_stage_checkpoint
from mvp_mm.engine.config_check import check_config
from mvp_mm.engine.config_error import ConfigError
from mvp_mm.engine.config_loading import load_config, load_datasets
from mvp_mm.engine.finite import FiniteStepHook
from mvp_mm.engine.hooks import StartCheckHook, TrainableReportHook
from mvp_mm.engine.log_hook import StepLoggerHook
from mvp_mm.engine.log_processor import PerceptionLogProcessor
from mvp_mm.engine.loops import MultiTestLoop, MultiValLoop
from mvp_mm.engine.optim_wrappers import AutocastOptimWrapper, FiniteOptimWrapper
from mvp_mm.engine.optimizer import NoNormBiasDecayConstructor
from mvp_mm.engine.preemption import PreemptionHook
from mvp_mm.engine.response_limit import ResponseLimitHook
from mvp_mm.engine.resume import ExactResumeHook
from mvp_mm.engine.runner import PerceptionRunner
from mvp_mm.engine.saving import VerifiedCheckpointHook
from mvp_mm.engine.sharding import ShardedRunner
from mvp_mm.engine.stage_hook import StageCheckpointHook
from mvp_mm.engine.watchdog import WatchdogHook
from mvp_mm.engine.wrappers import MVPDistributedDataParallel

__all__ = [
    'AccelerationHook', 'AutocastOptimWrapper', 'ConfigError', 'ExactResumeHook',
    'FiniteOptimWrapper', 'FiniteStepHook', 'MVPDistributedDataParallel', 'MultiTestLoop',
    'MultiValLoop',
    'NoNormBiasDecayConstructor', 'PerceptionLogProcessor', 'PerceptionRunner', 'PreemptionHook',
    'ResponseLimitHook', 'ShardedRunner', 'StageCheckpointHook', 'StartCheckHook',
    'StepLoggerHook', 'TrainableReportHook', 'VerifiedCheckpointHook', 'WatchdogHook',
    'check_config', 'load_config', 'load_datasets', 'load_stage_checkpoint'
]
