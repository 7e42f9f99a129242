# COCO-Stuff 164k: maps of 171 classes (`stuffthingmaps_trainval2017.zip`). A map's values are the
# ids less one; 255 is unlabelled, and eleven ids were never used.
_coco_stuff_unused = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
_coco_stuff = dict(
    coco_stuff_val=dict(
        type='SemanticMapDataset',
        data_root='data/coco',
        data_prefix=dict(img='val2017', seg='stuffthingmaps/val2017'),
        vocabulary='coco_stuff_171',
        values=[_value for _value in range(182) if _value not in _coco_stuff_unused],
        ignore=[*_coco_stuff_unused, 255],
        test_mode=True,
        tasks=[dict(type='SemanticTask')],
        pipeline='test_semantic_map',
        metrics=[dict(type='SemanticIoUMetric')]))
