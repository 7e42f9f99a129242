# Fine-tune the full-size model on labels of your own, all parts but the encoder: for one or more
# GPUs of 80 GB. The config that `mvp-mm data` writes inherits this file and adds
# the datasets `own_train` and `own_val`. Start from trained weights with --load-from.
_base_ = '../stage2.py'
load_from = None

total_batch_size = 16
_max_iters = 5000
optim_wrapper = dict(optimizer=dict(lr=2e-5))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=150),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=150, end=_max_iters)
]
train_cfg = dict(max_iters=_max_iters, val_interval=500)
# The best checkpoint by validation is kept beside the newest two.
default_hooks = dict(checkpoint=dict(interval=500, save_best='auto', rule='greater'))

train_dataloader = dict(batch_size=4, mix=dict(_delete_=True, own_train=1))
val_cfg = dict(type='MultiValLoop')
val_dataloader = dict(own=dict(dataset='own_val'))
test_dataloader = dict(_delete_=True, own=dict(dataset='own_val'))
