# Fine-tune the tiny model on labels of your own, on a CPU or any GPU, with the tokenizer of
# the synthetic world or of your labels. See full.py for what the inheriting config adds.
_base_ = '../tiny/stage2.py'
canvas = (192, 192)

_max_iters = 250
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=20),
    dict(type='CosineAnnealingLR', eta_min=2e-5, by_epoch=False, begin=20, end=_max_iters)
]
train_cfg = dict(max_iters=_max_iters, val_interval=125)
default_hooks = dict(
    checkpoint=dict(interval=125, save_best='auto', rule='greater'),
    logger=dict(interval=10))

train_dataloader = dict(batch_size=4, mix=dict(_delete_=True, own_train=1))
val_cfg = dict(type='MultiValLoop')
val_dataloader = dict(own=dict(dataset='own_val'))
test_dataloader = dict(_delete_=True, own=dict(dataset='own_val'))
