# The authors' released code where it departs from the paper: model, answers, mix and optimizer.
# Their own wording of the instructions is not reproduced. 8 images a GPU on 8 GPUs.
_base_ = ['../stage2.py', '../../_base_/models/released.py']
load_from = None

_parts = _base_._released
_parts.pixel_decoder.feedforward = 2048
# The mean of all hidden states; Phi's 50 295 tokens, [PAD] and [SEG].
_parts.llm = dict(pretrained=None, kept_layers=tuple(range(25)), config=dict(vocab_size=50297))
model = _parts

optim_wrapper = dict(
    constructor='DefaultOptimWrapperConstructor', optimizer=dict(weight_decay=0.0),
    clip_grad=None)

_canvas = (1024, 1024)
_tokenizer = dict(
    type='ReleasedTokenizer', path=_base_.model.tokenizer.path, num_visual_tokens=256,
    max_length=2048)
# The padded area is attended to: it is grey.
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

# Names of the objects stand in the response; sentences have a caption. All sentences of a
# reference are one expression, in testing too.
_named = dict(response='existing')
_panoptic = dict(type='ReleasedPanopticTask')
_referring = dict(type='ReleasedReferringTask', join_sentences=True)
_mix = [
    dict(_base_._coco_panoptic_train, tasks=[dict(_panoptic, **_named)]),
    *[dict(_d, tasks=[_referring]) for _d in _base_._refcoco_train],
    dict(_base_._objects365_train,
         tasks=[dict(type='DetectionTask', num_negatives=(80, 120), **_named)]),
    *[dict(_d, tasks=[dict(type='PhraseGroundingTask', max_negatives=100, **_named)])
      for _d in _base_._goldg_train]
]
train_dataloader = dict(
    # COCO, RefCOCO/+/g, Objects365, GQA, Flickr30k as 2 : 2 : 1 : 1 : 1.
    sampler=dict(ratios=[6, 2, 2, 2, 3, 3, 3]),
    dataset=dict(datasets=[dict(**_d, pipeline=_train_pipeline) for _d in _mix]))
test_dataloader = dict(
    panoptic=dict(dataset=dict(
        **dict(_base_._coco_panoptic_val, tasks=[_panoptic]), pipeline=_test_pipeline)),
    refcoco=dict(dataset=dict(
        **dict(_base_._refcoco_val, tasks=[_referring]), pipeline=_test_pipeline)))

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
