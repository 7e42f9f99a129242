# Stage 2 (paper table 2): connector, LLM and decoder train on the mix of all datasets.
# 8 images a GPU on 8 GPUs make the paper's batch of 64.
_base_ = [
    '../_base_/models/mvplm_swin-b_phi-1.5.py', '../_base_/datasets/coco_panoptic.py',
    '../_base_/datasets/refcoco.py', '../_base_/datasets/objects365.py',
    '../_base_/datasets/goldg.py', '../_base_/schedules/stage2.py',
    '../_base_/default_runtime.py'
]
load_from = 'work_dirs/stage1/iter_4650.pth'
# Eight images fit a GPU of 80 GB when the LLM's activations are recomputed.
model = dict(llm=dict(gradient_checkpointing=True))

_canvas = (1024, 1024)
_tokenizer = _base_.model.tokenizer
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
_asking = dict(tokenizer=_tokenizer, response_room=_base_.model.max_response_tokens)
_test_pipeline = [
    dict(type='BuildInstructions', **_asking, training=False), *_load,
    dict(type='PackPerceptionInputs', with_eval=True)
]

_mix = [
    _base_._coco_panoptic_train, *_base_._refcoco_train, _base_._objects365_train,
    *_base_._goldg_train
]
train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    collate_fn=dict(type='perception_collate'),
    # COCO 33.3 %, RefCOCO/+/g 33.3 %, Objects365 16.7 %, GoldG 16.7 %.
    sampler=dict(type='RatioSampler', ratios=[6, 2, 2, 2, 3, 1.5, 1.5]),
    dataset=dict(
        type='ConcatDataset',
        ignore_keys=['classes', 'thing_flags'],
        datasets=[dict(**_dataset, pipeline=_train_pipeline) for _dataset in _mix]))

_test_loader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    collate_fn=dict(type='perception_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False))
test_cfg = dict(type='MultiTestLoop')
test_dataloader = dict(
    panoptic=dict(
        **_test_loader, dataset=dict(**_base_._coco_panoptic_val, pipeline=_test_pipeline)),
    refcoco=dict(**_test_loader, dataset=dict(**_base_._refcoco_val, pipeline=_test_pipeline)))
test_evaluator = dict(
    panoptic=_base_._coco_panoptic_evaluator,
    refcoco=[dict(type='ReferringMetric')])

inferencer = dict(
    pipeline=[
        dict(type='TokenizeRequests', **_asking),
        dict(type='mmdet.Resize', scale=_canvas, keep_ratio=True),
        dict(type='PadToCanvas', size=_canvas),
        dict(type='PackPerceptionInputs'),
    ],
    tasks=dict(
        panoptic=dict(type='PanopticTask'),
        semantic=dict(type='SemanticTask'),
        instance=dict(type='InstanceTask'),
        detection=dict(type='DetectionTask'),
        grounding=dict(type='PhraseGroundingTask'),
        referring_segmentation=dict(type='ReferringSegmentationTask'),
        referring_comprehension=dict(type='ReferringComprehensionTask'),
        generalized_referring=dict(type='GeneralizedReferringTask'),
        caption=dict(type='CaptionTask')))
