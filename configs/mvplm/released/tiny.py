# The released parts at the tiny size, on the synthetic world.
_base_ = ['../tiny/stage2.py', '../../_base_/models/released.py']

_parts = _base_._released
_parts.connector.planes = 128
_parts.perception.denoising.num_queries = 24
_parts.llm = dict(kept_layers=(0, 1, 2))
# Without the position codes of the tiny size.
_parts.pixel_decoder = dict(
    _delete_=True, type='ReleasedPixelDecoder', num_layers=1, num_heads=4, feedforward=256)
_parts.perception.decoder = dict(
    _delete_=True, type='DINODecoder', num_layers=3, num_heads=4, feedforward=256)
model = _parts
pipelines = dict(fit=_base_._released_fit)
inferencer = dict(tasks=_base_._released_questions)

_panoptic = [dict(type='ReleasedPanopticTask')]
_referring = dict(type='ReleasedReferringTask')
datasets = dict(
    syn_panoptic_train=dict(tasks=_panoptic),
    syn_refcoco_train=dict(tasks=[dict(_referring, max_per_image=5)]),
    syn_panoptic_val=dict(
        tasks=_panoptic,
        metrics=[dict(type='PanopticQualityMetric'), dict(type='SemanticIoUMetric')]),
    syn_refcoco_val=dict(tasks=[_referring]))
train_dataloader = dict(mix=dict(
    _delete_=True, syn_panoptic_train=6, syn_refcoco_train=1, syn_objects365_train=1))
test_dataloader = dict(
    _delete_=True,
    panoptic=dict(dataset='syn_panoptic_val'),
    refcoco=dict(dataset='syn_refcoco_val'))
