# ADE20K, without and with the ensemble, as two datasets of one test: figures with the frozen
# features are never those of the model alone. Base classes are those with a name of
# COCO's things and stuff; all others are novel.
_base_ = '../../../configs/mvplm/eval/ade20k.py'
custom_imports = dict(imports=['projects.open_vocabulary.open_vocabulary'])

datasets = dict(
    ade20k_ensemble_val=dict(
        _base_.datasets.ade20k_panoptic_val,
        tasks=[dict(type='EnsemblePanopticTask', features='data/open_vocabulary/ade20k',
                    base_classes='coco_stuff_171')],
        metrics=[dict(type='SplitPanopticQualityMetric', base_classes='coco_stuff_171')]))
test_dataloader = dict(ade20k_ensemble=dict(dataset='ade20k_ensemble_val'))
