# The released parts at the tiny size, on the synthetic world.
_base_ = ['../tiny/stage2.py', '../../_base_/models/released.py']

_tokenizer = dict(
    type='ReleasedTokenizer', path=_base_._tiny_tokenizer.path, num_visual_tokens=4,
    max_length=256)
_parts = _base_._released
_parts.connector.planes = 128
_parts.tokenizer.num_visual_tokens = 4
_parts.perception.denoising.num_queries = 24
_parts.llm = dict(kept_layers=(0, 1, 2))
model = _parts

_canvas = (128, 128)
_load = [
    dict(type='LoadImage'),
    dict(type='LoadPerceptionAnnotations'),
    dict(type='mmdet.Resize', scale=_canvas, keep_ratio=True),
    dict(type='PadToCanvas', size=_canvas, pad_val=dict(img=(128, 128, 128), masks=0)),
]
_train_pipeline = [
    dict(type='BuildInstructions', tokenizer=_tokenizer, training=True), *_load,
    dict(type='PackPerceptionInputs')
]
_test_pipeline = [
    dict(type='BuildInstructions', tokenizer=_tokenizer, training=False), *_load,
    dict(type='PackPerceptionInputs', with_eval=True)
]

_panoptic = dict(type='ReleasedPanopticTask')
_referring = dict(type='ReleasedReferringTask')
train_dataloader = dict(
    dataset=dict(datasets=[
        dict(**dict(_base_._syn_panoptic_train, tasks=[_panoptic]), pipeline=_train_pipeline),
        dict(**dict(_base_._syn_refcoco_train, tasks=[dict(_referring, max_per_image=5)]),
             pipeline=_train_pipeline),
        dict(**_base_._syn_objects365_train, pipeline=_train_pipeline),
    ]))
test_dataloader = dict(
    _delete_=True,
    panoptic=dict(**_base_._test_loader, dataset=dict(
        **dict(_base_._syn_panoptic_val, tasks=[_panoptic]), pipeline=_test_pipeline)),
    refcoco=dict(**_base_._test_loader, dataset=dict(
        **dict(_base_._syn_refcoco_val, tasks=[_referring]), pipeline=_test_pipeline)))
test_evaluator = dict(
    _delete_=True,
    panoptic=[dict(type='PanopticQualityMetric'), dict(type='SemanticIoUMetric')],
    refcoco=[dict(type='ReferringMetric')])

inferencer = dict(
    pipeline=[
        dict(type='TokenizeRequests', tokenizer=_tokenizer),
        dict(type='mmdet.Resize', scale=_canvas, keep_ratio=True),
        dict(type='PadToCanvas', size=_canvas, pad_val=dict(img=(128, 128, 128), masks=0)),
        dict(type='PackPerceptionInputs'),
    ],
    tasks=dict(
        panoptic=dict(type='ReleasedPanopticTask'),
        semantic=dict(type='ReleasedSemanticTask'),
        referring_segmentation=dict(type='ReleasedReferringTask'),
        generalized_referring=dict(type='ReleasedGeneralizedReferringTask')))
