# Stage 1 (paper table 2): AdamW 2e-3, no weight decay, batch 128, 4 650 steps, cosine.
_max_iters = 4650
optim_wrapper = dict(
    type='AutocastOptimWrapper',
    # dtype=None computes in float32.
    dtype='bfloat16',
    optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.999), weight_decay=0.0, fused=True),
    # A guard: a random connector begins at a norm of 4 and is below 1 after a few steps.
    clip_grad=dict(max_norm=20.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=140),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=140, end=_max_iters)
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=_max_iters, val_interval=_max_iters + 1)
# Images a step of the optimizer; gradients are accumulated where the processes hold fewer.
total_batch_size = 128
