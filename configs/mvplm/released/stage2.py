# The authors' released code where it departs from the paper: model, answers, mix and optimizer.
# Their own wording of the instructions is not reproduced. 8 images per GPU on 8 GPUs.
_base_ = ['../stage2.py', '../../_base_/models/released.py']
load_from = None

_parts = _base_._released
_parts.pixel_decoder.feedforward = 2048
_parts.tokenizer.path = 'checkpoints/phi-1_5'
# The mean of all hidden states; Phi's 50 295 tokens, [PAD] and [SEG].
_parts.llm = dict(pretrained=None, kept_layers=tuple(range(25)), config=dict(vocab_size=50297))
model = _parts
pipelines = dict(fit=_base_._released_fit)
inferencer = dict(tasks=_base_._released_questions)
optim_wrapper = dict(
    constructor='DefaultOptimWrapperConstructor', optimizer=dict(weight_decay=0.0),
    clip_grad=None)

# Names of the objects stand in the response; sentences have a caption. All sentences of a
# reference are one expression, in testing too.
_named = dict(response='existing')
_panoptic = dict(type='ReleasedPanopticTask')
_referring = [dict(type='ReleasedReferringTask', join_sentences=True)]
_grounding = [dict(type='PhraseGroundingTask', max_negatives=100, **_named)]
datasets = dict(
    coco_panoptic_train=dict(tasks=[dict(_panoptic, **_named)]),
    refcoco_train=dict(tasks=_referring),
    refcoco_plus_train=dict(tasks=_referring),
    refcocog_train=dict(tasks=_referring),
    objects365_train=dict(tasks=[dict(type='DetectionTask', num_negatives=(80, 120), **_named)]),
    goldg_mixed_train=dict(tasks=_grounding),
    goldg_flickr_train=dict(tasks=_grounding),
    coco_panoptic_val=dict(tasks=[_panoptic]),
    refcoco_val=dict(tasks=_referring))
# COCO, RefCOCO/+/g, Objects365, GQA, Flickr30k as 2 : 2 : 1 : 1 : 1.
train_dataloader = dict(mix=dict(goldg_mixed_train=3, goldg_flickr_train=3))
