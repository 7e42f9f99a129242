# Copyright (c) mvp_mm authors. All rights reserved.
default_scope = 'mvp_mm'

env_cfg = dict(
    # Algorithms chosen by timing could be others after a resume, which continues bit for bit.
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    # Seconds that ranks wait for each other.
    dist_cfg=dict(backend='nccl', timeout=1800))
model_wrapper_cfg = dict(
    type='mvp_mm.MVPDistributedDataParallel', broadcast_buffers=False,
    gradient_as_bucket_view=True)

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='StepLoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='VerifiedCheckpointHook', interval=2000, by_epoch=False, max_keep_ckpts=2),
    preemption=dict(type='PreemptionHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    start_check=dict(type='StartCheckHook'),
    handover=dict(type='StageCheckpointHook'),
    trainable_report=dict(type='TrainableReportHook'),
    exact_resume=dict(type='ExactResumeHook'),
    finite_step=dict(type='FiniteStepHook', max_skips=5),
    watchdog=dict(type='WatchdogHook', stall_timeout=1500, worker_timeout=600))

# Values go to vis_data/scalars.json in the run's folder; inherit `tensorboard.py` beside this file
# as well for TensorBoard.
log_processor = dict(type='PerceptionLogProcessor', window_size=50, by_epoch=False)
log_level = 'INFO'
randomness = dict(seed=0)
load_from = None
resume = False
