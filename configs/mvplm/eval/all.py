# All benchmarks. They hold data and metrics alone and stand on a model's config, by default the
# full-size one; MVP_MM_MODEL names another that inherits stage2.py (docs/reference/benchmarks.md).
_base_ = [
    '{{$MVP_MM_MODEL:../stage2.py}}', '../../_base_/datasets/coco_instance.py',
    '../../_base_/datasets/ade20k.py', '../../_base_/datasets/cityscapes.py',
    '../../_base_/datasets/pascal_context.py', '../../_base_/datasets/pascal_voc.py',
    '../../_base_/datasets/lvis.py', '../../_base_/datasets/grefcoco.py'
]

_referring = {k: v for k, v in _base_._refcoco_eval.items() if 'google' not in k}
_joined = {f'{k}_joined': _base_._refcoco_eval_joined[k] for k in _referring}
_lvis = dict(
    _base_._lvis_val, listed='all', tasks=[dict(type='InstanceTask', max_instances=300)])
_benchmarks = dict(
    # PQ and mIoU from one forward pass, of COCO also AP on the panoptic segments.
    coco_panoptic=(_base_._coco_panoptic_val, _base_._coco_panoptic_evaluator),
    ade20k=(_base_._ade20k_panoptic_val, _base_._ade20k_panoptic_evaluator),
    cityscapes=(_base_._cityscapes_panoptic_val, _base_._cityscapes_panoptic_evaluator),
    coco_instance=(_base_._coco_instance_val, _base_._coco_instance_evaluator),
    ade20k_instance=(_base_._ade20k_instance_val, _base_._ade20k_instance_evaluator),
    cityscapes_instance=(_base_._cityscapes_instance_val, _base_._cityscapes_instance_evaluator),
    pascal_context59=(_base_._pascal_context_val, _base_._pascal_context_evaluator),
    pascal_voc20=(_base_._pascal_voc_val, _base_._pascal_voc_evaluator),
    lvis=(_lvis, [dict(type='LvisAPMetric')]),
    # Masks (RES) and boxes (REC) of one sentence a sample, and of a reference's sentences joined.
    **{k: (v, _base_._refcoco_evaluator) for k, v in {**_referring, **_joined}.items()},
    **{k: (v, _base_._grefcoco_evaluator) for k, v in _base_._grefcoco_eval.items()},
    flickr30k=(_base_._flickr_val, _base_._goldg_evaluator))

_maps_pipeline = [
    dict(_step, type='LoadSemanticMap') if _step['type'] == 'LoadPerceptionAnnotations' else _step
    for _step in _base_._test_pipeline
]
_loader = dict(_base_._test_loader, persistent_workers=False)
test_dataloader = dict(_delete_=True, **{
    _name: dict(_loader, dataset=dict(
        _data, pipeline=_maps_pipeline if 'vocabulary' in _data else _base_._test_pipeline))
    for _name, (_data, _) in _benchmarks.items()
})
test_evaluator = dict(
    _delete_=True, **{_name: _metrics for _name, (_, _metrics) in _benchmarks.items()})
