# Labels of your own, as `mvp-mm data` writes masks to data/own; the config that it
# writes beside them replaces both by what your labels hold.
_own_labels = dict(
    type='CocoInstanceDataset',
    data_root='data/own',
    data_prefix=dict(img='images'),
    tasks=[dict(type='InstanceTask', response='none')])
_own = dict(
    own_train=dict(_own_labels, ann_file='train.json'),
    own_val=dict(_own_labels, ann_file='val.json', test_mode=True,
                 metrics=[dict(type='CocoAPMetric')]))
