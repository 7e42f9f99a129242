# Fine-tunes the model of configs/mvplm/tiny/stage2.py on expressions from CSV files.
_base_ = '../../../configs/mvplm/tiny/stage2.py'
custom_imports = dict(imports=['projects.csv_referring.csv_referring'])

_csv = dict(
    type='CsvReferringDataset',
    data_root='data/csv_referring',
    data_prefix=dict(img='images'),
    tasks=[dict(type='ReferringComprehensionTask')])
datasets = dict(
    csv_train=dict(_csv, ann_file='train.csv'),
    csv_val=dict(_csv, ann_file='val.csv', test_mode=True,
                 metrics=[dict(type='ReferringMetric', targets=('box', ))]))
train_dataloader = dict(mix=dict(_delete_=True, csv_train=1))
test_dataloader = dict(_delete_=True, csv=dict(dataset='csv_val'))
