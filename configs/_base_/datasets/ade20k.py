# ADE20K, 150 classes, for open-vocabulary evaluation: panoptic (100 things), instance, semantic.
_ade20k = dict(
    ade20k_panoptic_val=dict(
        type='CocoPanopticDataset',
        data_root='data/ADEChallengeData2016',
        ann_file='ade20k_panoptic_val.json',
        data_prefix=dict(img='images/validation', seg='ade20k_panoptic_val'),
        strip=(),
        name_style='first_synonym',
        test_mode=True,
        tasks=[dict(type='PanopticTask')],
        metrics=[dict(type='PanopticQualityMetric'), dict(type='SemanticIoUMetric')]),
    ade20k_panoptic_train=dict(
        type='CocoPanopticDataset',
        data_root='data/ADEChallengeData2016',
        ann_file='ade20k_panoptic_train.json',
        data_prefix=dict(img='images/training', seg='ade20k_panoptic_train'),
        strip=(),
        name_style='first_synonym',
        caption_store='captions/ade20k_train.jsonl',
        tasks=[dict(type='PanopticTask')]),
    ade20k_instance_val=dict(
        type='CocoInstanceDataset',
        data_root='data/ADEChallengeData2016',
        ann_file='ade20k_instance_val.json',
        data_prefix=dict(img='images/validation'),
        name_style='first_synonym',
        test_mode=True,
        tasks=[dict(type='InstanceTask')],
        metrics=[dict(type='CocoAPMetric')]),
    # The scene parsing challenge's maps: 0 is "other".
    ade20k_semantic_val=dict(
        type='SemanticMapDataset',
        data_root='data/ADEChallengeData2016',
        data_prefix=dict(img='images/validation', seg='annotations/validation'),
        vocabulary='ade20k_150',
        values=list(range(1, 151)),
        ignore=[0],
        test_mode=True,
        tasks=[dict(type='SemanticTask')],
        pipeline='test_semantic_map',
        metrics=[dict(type='SemanticIoUMetric')]))
