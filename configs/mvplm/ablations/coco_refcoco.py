# The setting of the ablations (paper section 4.2): COCO panoptic and RefCOCO/+/g, half and half,
# 9 000 steps. By itself it is the row "Caption" of table 7, "100" of table 8 and "with query
# selection" of table 9.
_base_ = '../stage2.py'

_max_iters = 9000
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=270),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=270, end=_max_iters)
]
train_cfg = dict(max_iters=_max_iters, val_interval=_max_iters + 1)

_mix = [_base_._coco_panoptic_train, *_base_._refcoco_train]
train_dataloader = dict(
    sampler=dict(ratios=[3, 1, 1, 1]),
    dataset=dict(datasets=[dict(**_d, pipeline=_base_._train_pipeline) for _d in _mix]))
