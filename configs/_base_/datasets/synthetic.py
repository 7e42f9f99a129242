# The synthetic world of tools/data/make_synthetic_world.py, read as the real datasets are.
_world = 'data/synthetic'
_captions = dict(caption_store='captions/train.json')

_syn_captions_train = dict(
    type='CaptionDataset',
    data_root=_world,
    ann_file='annotations/captions_train.json',
    data_prefix=dict(img=''),
    tasks=[dict(type='CaptionTask')])
_syn_panoptic_train = dict(
    type='CocoPanopticDataset',
    data_root=_world,
    ann_file='annotations/panoptic_train.json',
    data_prefix=dict(img='images/train', seg='annotations/panoptic_train'),
    tasks=[dict(type='PanopticTask')],
    **_captions)
_syn_refcoco_train = dict(
    type='RefCocoDataset',
    data_root=_world,
    ann_file='refer/refcoco/refs(unc).p',
    instances_file='refer/refcoco/instances.json',
    split='train',
    data_prefix=dict(img='images'),
    tasks=[dict(type='ReferringSegmentationTask', max_per_image=5)],
    **_captions)
_syn_grefcoco_train = dict(
    type='GRefCocoDataset',
    data_root=_world,
    ann_file='refer/grefcoco/grefs(unc).json',
    instances_file='refer/grefcoco/instances.json',
    split='train',
    data_prefix=dict(img='images'),
    tasks=[dict(type='GeneralizedReferringTask', max_per_image=1)],
    **_captions)
_syn_objects365_train = dict(
    type='BoxDetectionDataset',
    data_root=_world,
    ann_file='annotations/objects365_train.json',
    data_prefix=dict(img='images/train'),
    tasks=[dict(type='DetectionTask', num_negatives=(0, 6))],
    **_captions)
_syn_goldg_train = dict(
    type='GroundingDataset',
    data_root=_world,
    ann_file='annotations/grounding_train.json',
    data_prefix=dict(img='images/train'),
    tasks=[dict(type='PhraseGroundingTask', max_negatives=6)],
    **_captions)

_val = dict(test_mode=True, caption_store=None)
_syn_panoptic_val = dict(
    _syn_panoptic_train,
    ann_file='annotations/panoptic_val.json',
    data_prefix=dict(img='images/val', seg='annotations/panoptic_val'),
    **_val)
_syn_refcoco_val = dict(
    _syn_refcoco_train,
    split='val',
    # All queries are kept, to see what an oracle could choose from.
    tasks=[dict(type='ReferringSegmentationTask', num_candidates=100)],
    **_val)
_syn_grefcoco_val = dict(
    _syn_grefcoco_train, split='val', tasks=[dict(type='GeneralizedReferringTask')], **_val)
_syn_objects365_val = dict(
    _syn_objects365_train,
    ann_file='annotations/objects365_val.json',
    data_prefix=dict(img='images/val'),
    tasks=[dict(type='DetectionTask')],
    **_val)
_syn_goldg_val = dict(
    _syn_goldg_train,
    ann_file='annotations/grounding_val.json',
    data_prefix=dict(img='images/val'),
    tasks=[dict(type='PhraseGroundingTask')],
    **_val)
