# The synthetic world with names that training has never read, without and with the ensemble;
# synthetic_features.py makes the data.
_base_ = '../../../configs/mvplm/tiny/pretrained.py'
custom_imports = dict(imports=['projects.open_vocabulary.open_vocabulary'])

_seen = ['circle', 'square', 'triangle', 'cross', 'grass', 'sand', 'brick', 'snow']
_unseen = dict(
    type='CocoPanopticDataset',
    data_root='data',
    caption_store=None,
    test_mode=True,
    ann_file='open_vocabulary/panoptic_val.json',
    data_prefix=dict(img='synthetic/images/val', seg='synthetic/annotations/panoptic_val'),
    metrics=[dict(type='SplitPanopticQualityMetric', base_classes=_seen)])
datasets = dict(
    syn_unseen_val=dict(_unseen, tasks=[dict(type='PanopticTask')]),
    syn_unseen_ensemble_val=dict(_unseen, tasks=[
        dict(type='EnsemblePanopticTask', features='data/open_vocabulary', base_classes=_seen,
             scale=20.0)
    ]))
test_dataloader = dict(
    _delete_=True,
    alone=dict(dataset='syn_unseen_val'),
    ensemble=dict(dataset='syn_unseen_ensemble_val'))
