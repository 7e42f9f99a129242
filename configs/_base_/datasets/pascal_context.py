# Pascal Context, 59 frequent classes, for open-vocabulary evaluation. Maps as mmsegmentation's
# converter writes them: 0 is background, then the classes in the order of their ids.
_context_maps = dict(
    type='SemanticMapDataset',
    data_root='data/VOCdevkit/VOC2010',
    ann_file='ImageSets/SegmentationContext/val.txt',
    data_prefix=dict(img='JPEGImages', seg='SegmentationClassContext'),
    vocabulary='pascal_context_59_by_id',
    values=list(range(1, 60)),
    ignore=[0],
    test_mode=True,
    tasks=[dict(type='SemanticTask')],
    pipeline='test_semantic_map',
    metrics=[dict(type='SemanticIoUMetric')])
_pascal_context = dict(
    pascal_context_val=_context_maps,
    # Maps made from the dataset's own list of 59 classes: values from 0, 255 is anything else.
    pascal_context_listed_val=dict(
        _context_maps,
        ann_file='pascalcontext_val.txt',
        data_prefix=dict(img='JPEGImages', seg='annotations_detectron2/pc59_val'),
        vocabulary='pascal_context_59',
        values=list(range(59)),
        ignore=[255]))
