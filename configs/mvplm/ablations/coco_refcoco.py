# The setting of the ablations (paper section 4.2): COCO panoptic and RefCOCO/+/g, half and half,
# 9 000 steps. By itself it is the row "Caption" of table 7, "100" of table 8 and "with query
# selection" of table 9.
_base_ = '../stage2.py'

_max_iters = 9000
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=270),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=270, end=_max_iters)
]
train_cfg = dict(max_iters=_max_iters, val_interval=3000)

train_dataloader = dict(mix=dict(
    _delete_=True, coco_panoptic_train=3, refcoco_train=1, refcoco_plus_train=1, refcocog_train=1))
