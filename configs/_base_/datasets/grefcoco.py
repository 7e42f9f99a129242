# gRefCOCO (GRES): sentences that mean any number of objects, none included.
_grefcoco = dict(
    type='GRefCocoDataset',
    data_root='data/refer',
    ann_file='grefcoco/grefs(unc).json',
    instances_file='grefcoco/instances.json',
    data_prefix=dict(img='train2014'))
_grefcoco_train = dict(
    _grefcoco,
    split='train',
    caption_store='captions/coco_train2014.json',
    tasks=[dict(type='GeneralizedReferringTask', max_per_image=4)])
_grefcoco_eval = {
    f'grefcoco_{_split}': dict(
        _grefcoco, split=_split, test_mode=True, tasks=[dict(type='GeneralizedReferringTask')])
    for _split in ('val', 'testA', 'testB')
}
_grefcoco_evaluator = [dict(type='GeneralizedReferringMetric')]
