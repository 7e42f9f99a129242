# Stage 2 (paper table 2): AdamW 4e-5, weight decay 0.05, batch 64, 80 000 steps, cosine. Matrices
# alone decay; paramwise_cfg=dict(decay_all=True) has everything decay.
_max_iters = 80000
optim_wrapper = dict(
    type='AutocastOptimWrapper',
    # dtype=None computes in float32.
    dtype='bfloat16',
    constructor='NoNormBiasDecayConstructor',
    optimizer=dict(type='AdamW', lr=4e-5, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    # A guard: usual norms are 40 to 80, from random decoders 190 in the first step.
    clip_grad=dict(max_norm=500.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=2400),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=2400, end=_max_iters)
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=_max_iters, val_interval=4000)
# Images a step of the optimizer; gradients are accumulated where the processes hold fewer.
total_batch_size = 64
