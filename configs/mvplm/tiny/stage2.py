# Stage 2 at the tiny size, on the synthetic world. Two processes with 4 images each; an image
# carries a word list and several sentences.
_base_ = [
    '../stage2.py', '../../_base_/models/tiny_sizes.py', '../../_base_/datasets/synthetic.py'
]
model = _base_._tiny_sizes
load_from = None

total_batch_size = None
_max_iters = 1650
optim_wrapper = dict(dtype=None, optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=100),
    dict(type='CosineAnnealingLR', eta_min=2e-5, by_epoch=False, begin=100, end=_max_iters)
]
train_cfg = dict(max_iters=_max_iters, val_interval=_max_iters + 1)
# On two cores, sending gradients during the backward pass takes time from it.
model_wrapper_cfg = dict(bucket_cap_mb=100)
default_hooks = dict(
    checkpoint=dict(interval=_max_iters),
    visualization=dict(type='PerceptionVisualizationHook', interval=60))

_canvas = (128, 128)
_tokenizer = dict(type='InstructionTokenizer', **_base_._tiny_tokenizer)
_load = [
    dict(type='LoadImage'),
    dict(type='LoadPerceptionAnnotations'),
    dict(type='mmdet.Resize', scale=_canvas, keep_ratio=True),
    dict(type='PadToCanvas', size=_canvas),
]
_train_pipeline = [
    dict(type='BuildInstructions', tokenizer=_tokenizer, training=True), *_load,
    dict(type='PackPerceptionInputs')
]
_asking = dict(tokenizer=_tokenizer, response_room=model.max_response_tokens)
_test_pipeline = [
    dict(type='BuildInstructions', **_asking, training=False), *_load,
    dict(type='PackPerceptionInputs', with_eval=True)
]

train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(ratios=[6, 1, 1]),
    dataset=dict(
        datasets=[
            dict(
                type='MultiSourceDataset',
                datasets=[
                    _base_._syn_panoptic_train, _base_._syn_refcoco_train,
                    _base_._syn_grefcoco_train
                ],
                pipeline=_train_pipeline),
            dict(**_base_._syn_objects365_train, pipeline=_train_pipeline),
            dict(**_base_._syn_goldg_train, pipeline=_train_pipeline),
        ]))

_test_loader = dict(
    batch_size=8,
    num_workers=0,
    collate_fn=dict(type='perception_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False))
test_dataloader = dict(
    _delete_=True,
    panoptic=dict(
        **_test_loader, dataset=dict(**_base_._syn_panoptic_val, pipeline=_test_pipeline)),
    refcoco=dict(**_test_loader, dataset=dict(**_base_._syn_refcoco_val, pipeline=_test_pipeline)),
    grefcoco=dict(
        **_test_loader, dataset=dict(**_base_._syn_grefcoco_val, pipeline=_test_pipeline)),
    objects365=dict(
        **_test_loader, dataset=dict(**_base_._syn_objects365_val, pipeline=_test_pipeline)),
    goldg=dict(**_test_loader, dataset=dict(**_base_._syn_goldg_val, pipeline=_test_pipeline)))
test_evaluator = dict(
    grefcoco=[dict(type='GeneralizedReferringMetric')],
    objects365=[dict(type='CocoAPMetric', iou_types=['bbox'])],
    goldg=[dict(type='GroundingRecallMetric')])

inferencer = dict(
    pipeline=[
        dict(type='TokenizeRequests', **_asking),
        dict(type='mmdet.Resize', scale=_canvas, keep_ratio=True),
        dict(type='PadToCanvas', size=_canvas),
        dict(type='PackPerceptionInputs'),
    ])
