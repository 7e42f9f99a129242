# Cityscapes, 19 classes, for open-vocabulary evaluation: panoptic (8 things), instance, semantic.
# Maps of the dataset's own ids; those that its benchmark leaves out are ignored (255 is the id -1,
# the licence plate).
_cityscapes_maps = dict(
    type='SemanticMapDataset',
    data_root='data/cityscapes',
    data_prefix=dict(img='leftImg8bit/val', seg='gtFine/val'),
    img_suffix='_leftImg8bit.png',
    seg_map_suffix='_gtFine_labelIds.png',
    vocabulary='cityscapes_19',
    values=[7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33],
    ignore=[0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30, 255],
    test_mode=True,
    tasks=[dict(type='SemanticTask')],
    pipeline='test_semantic_map',
    metrics=[dict(type='SemanticIoUMetric')])
_cityscapes = dict(
    cityscapes_panoptic_val=dict(
        type='CityscapesPanopticDataset',
        data_root='data/cityscapes',
        ann_file='gtFine/cityscapes_panoptic_val.json',
        data_prefix=dict(img='leftImg8bit/val', seg='gtFine/cityscapes_panoptic_val'),
        test_mode=True,
        tasks=[dict(type='PanopticTask')],
        metrics=[dict(type='PanopticQualityMetric'), dict(type='SemanticIoUMetric')]),
    cityscapes_panoptic_train=dict(
        type='CityscapesPanopticDataset',
        data_root='data/cityscapes',
        ann_file='gtFine/cityscapes_panoptic_train.json',
        data_prefix=dict(img='leftImg8bit/train', seg='gtFine/cityscapes_panoptic_train'),
        caption_store='captions/cityscapes_train.jsonl',
        tasks=[dict(type='PanopticTask')]),
    # COCO-style JSON that mmdet's converter writes.
    cityscapes_instance_val=dict(
        type='CocoInstanceDataset',
        data_root='data/cityscapes',
        ann_file='annotations/instancesonly_filtered_gtFine_val.json',
        data_prefix=dict(img='leftImg8bit/val'),
        test_mode=True,
        tasks=[dict(type='InstanceTask')],
        metrics=[dict(type='CocoAPMetric')]),
    cityscapes_semantic_val=_cityscapes_maps,
    # The same with the train ids that cityscapesScripts makes.
    cityscapes_semantic_trainids_val=dict(
        _cityscapes_maps,
        seg_map_suffix='_gtFine_labelTrainIds.png',
        values=list(range(19)),
        ignore=[255]))
