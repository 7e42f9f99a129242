# Pascal VOC 2012, 20 classes, for open-vocabulary evaluation: background (0) and the outlines (255)
# are ignored.
_pascal_voc = dict(
    pascal_voc_val=dict(
        type='SemanticMapDataset',
        data_root='data/VOCdevkit/VOC2012',
        ann_file='ImageSets/Segmentation/val.txt',
        data_prefix=dict(img='JPEGImages', seg='SegmentationClass'),
        vocabulary='pascal_voc_20',
        values=list(range(1, 21)),
        ignore=[0, 255],
        test_mode=True,
        tasks=[dict(type='SemanticTask')],
        pipeline='test_semantic_map',
        metrics=[dict(type='SemanticIoUMetric')]))
