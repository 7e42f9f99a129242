# Table 6, C + R + O + G: the whole mix, 56 000 steps.
_base_ = '../stage2.py'

_max_iters = 56000
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=1680),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=1680, end=_max_iters)
]
train_cfg = dict(max_iters=_max_iters)
