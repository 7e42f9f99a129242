# Goes on with the captions of the weights of the repository, without training perception again.
_base_ = '../../../configs/mvplm/tiny/pretrained.py'
custom_imports = dict(imports=['projects.caption_tuning.caption_tuning'])

_weights = 'tiny'
model = dict(
    type='CaptionTuning',
    kept=dict(weights=_weights, connector=dict(type='PyramidConnector', merge=1)),
    trainable=['connector', 'llm'],
    encoder=dict(frozen=True, backbone=dict(pretrained_path=None)))
load_from = _weights

_max_iters = 4000
train_dataloader = dict(batch_size=8)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=100),
    dict(type='CosineAnnealingLR', eta_min=4e-5, by_epoch=False, begin=100, end=_max_iters)
]
train_cfg = dict(max_iters=_max_iters, val_interval=_max_iters + 1)
default_hooks = dict(
    handover=dict(pretrained_parts=['encoder', 'llm']),
    checkpoint=dict(interval=500),
    visualization=dict(type='PerceptionVisualizationHook', interval=_max_iters))
