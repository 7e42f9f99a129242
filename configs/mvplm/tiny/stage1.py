# Stage 1 at the tiny size: encoder, connector and LLM learn to caption the synthetic world.
# Two processes with 16 images each.
_base_ = [
    '../stage1.py', '../../_base_/models/tiny_sizes.py', '../../_base_/datasets/synthetic.py'
]
model = dict(trainable=['encoder', 'connector', 'llm'], **_base_._tiny_sizes)

total_batch_size = None
_max_iters = 150
optim_wrapper = dict(dtype=None, optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=30),
    dict(type='CosineAnnealingLR', eta_min=1e-4, by_epoch=False, begin=30, end=_max_iters)
]
train_cfg = dict(max_iters=_max_iters, val_interval=_max_iters + 1)
default_hooks = dict(checkpoint=dict(interval=_max_iters))

_canvas = (128, 128)
_tokenizer = dict(type='InstructionTokenizer', **_base_._tiny_tokenizer)
_pipeline = [
    dict(type='BuildInstructions', tokenizer=_tokenizer, training=True),
    dict(type='LoadImage'),
    dict(type='LoadPerceptionAnnotations'),
    dict(type='mmdet.Resize', scale=_canvas, keep_ratio=True),
    dict(type='PadToCanvas', size=_canvas),
    dict(type='PackPerceptionInputs'),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(_delete_=True, **_base_._syn_captions_train, pipeline=_pipeline))
