# The synthetic world of tools/data/make_synthetic_world.py, read as the real datasets are.
_syn_train = dict(data_root='data/synthetic', caption_store='captions/train.json')
_syn_val = dict(data_root='data/synthetic', caption_store=None, test_mode=True)
_syn_panoptic = dict(type='CocoPanopticDataset', tasks=[dict(type='PanopticTask')])
_syn_refcoco = dict(
    type='RefCocoDataset',
    ann_file='refer/refcoco/refs(unc).p',
    instances_file='refer/refcoco/instances.json',
    data_prefix=dict(img='images'))
_syn_grefcoco = dict(
    type='GRefCocoDataset',
    ann_file='refer/grefcoco/grefs(unc).json',
    instances_file='refer/grefcoco/instances.json',
    data_prefix=dict(img='images'))
_synthetic = dict(
    syn_captions_train=dict(
        type='CaptionDataset',
        data_root='data/synthetic',
        ann_file='annotations/captions_train.json',
        data_prefix=dict(img=''),
        tasks=[dict(type='CaptionTask')]),
    syn_panoptic_train=dict(
        _syn_panoptic, **_syn_train,
        ann_file='annotations/panoptic_train.json',
        data_prefix=dict(img='images/train', seg='annotations/panoptic_train')),
    syn_refcoco_train=dict(
        _syn_refcoco, **_syn_train, split='train',
        tasks=[dict(type='ReferringSegmentationTask', max_per_image=5)]),
    syn_grefcoco_train=dict(
        _syn_grefcoco, **_syn_train, split='train',
        tasks=[dict(type='GeneralizedReferringTask', max_per_image=1)]),
    # An image carries a word list and several sentences.
    syn_joined_train=dict(
        type='MultiSourceDataset',
        datasets=['syn_panoptic_train', 'syn_refcoco_train', 'syn_grefcoco_train']),
    syn_objects365_train=dict(
        type='BoxDetectionDataset', **_syn_train,
        ann_file='annotations/objects365_train.json',
        data_prefix=dict(img='images/train'),
        tasks=[dict(type='DetectionTask', num_negatives=(0, 6))]),
    syn_goldg_train=dict(
        type='GroundingDataset', **_syn_train,
        ann_file='annotations/grounding_train.json',
        data_prefix=dict(img='images/train'),
        tasks=[dict(type='PhraseGroundingTask', max_negatives=6)]),
    syn_panoptic_val=dict(
        _syn_panoptic, **_syn_val,
        ann_file='annotations/panoptic_val.json',
        data_prefix=dict(img='images/val', seg='annotations/panoptic_val'),
        metrics=[
            dict(type='PanopticQualityMetric'), dict(type='SemanticIoUMetric'),
            dict(type='CocoAPMetric'),
            dict(type='CaptionTruthMetric', data_root='data/synthetic')
        ]),
    # All queries are kept, to see what an oracle could choose from.
    syn_refcoco_val=dict(
        _syn_refcoco, **_syn_val, split='val',
        tasks=[dict(type='ReferringSegmentationTask', num_candidates=100)],
        metrics=[dict(type='ReferringMetric')]),
    syn_grefcoco_val=dict(
        _syn_grefcoco, **_syn_val, split='val',
        tasks=[dict(type='GeneralizedReferringTask')],
        metrics=[dict(type='GeneralizedReferringMetric')]),
    syn_objects365_val=dict(
        type='BoxDetectionDataset', **_syn_val,
        ann_file='annotations/objects365_val.json',
        data_prefix=dict(img='images/val'),
        tasks=[dict(type='DetectionTask')],
        metrics=[dict(type='CocoAPMetric', iou_types=['bbox'])]),
    syn_goldg_val=dict(
        type='GroundingDataset', **_syn_val,
        ann_file='annotations/grounding_val.json',
        data_prefix=dict(img='images/val'),
        tasks=[dict(type='PhraseGroundingTask')],
        metrics=[dict(type='GroundingRecallMetric')]))
