# gRefCOCO (GRES): sentences that mean any number of objects, none included.
_grefcoco_files = dict(
    type='GRefCocoDataset',
    data_root='data/refer',
    ann_file='grefcoco/grefs(unc).json',
    instances_file='grefcoco/instances.json',
    data_prefix=dict(img='train2014'))
_grefcoco = dict(
    grefcoco_train=dict(
        _grefcoco_files,
        split='train',
        caption_store='captions/coco_train2014.jsonl',
        tasks=[dict(type='GeneralizedReferringTask', max_per_image=4)]),
    **{
        f'grefcoco_{_split}': dict(
            _grefcoco_files,
            split=_split,
            test_mode=True,
            tasks=[dict(type='GeneralizedReferringTask')],
            metrics=[dict(type='GeneralizedReferringMetric')])
        for _split in ('val', 'testA', 'testB')
    })
