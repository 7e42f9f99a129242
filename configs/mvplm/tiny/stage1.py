# Stage 1 at the tiny size: encoder, connector and LLM learn to caption the synthetic world.
# Two processes with 16 images each.
_base_ = ['../stage1.py', '../../_base_/models/tiny_sizes.py']
canvas = (128, 128)
model = dict(trainable=['encoder', 'connector', 'llm'], **_base_._tiny_sizes)

total_batch_size = None
_max_iters = 150
optim_wrapper = dict(
    dtype=None, optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=30),
    dict(type='CosineAnnealingLR', eta_min=1e-4, by_epoch=False, begin=30, end=_max_iters)
]
train_cfg = dict(max_iters=_max_iters, val_interval=_max_iters + 1)
default_hooks = dict(checkpoint=dict(interval=_max_iters))
train_dataloader = dict(num_workers=0, dataset='syn_captions_train')
