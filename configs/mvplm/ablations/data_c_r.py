# Table 6, C + R: COCO panoptic and RefCOCO/+/g.
_base_ = 'data_c_r_o_g.py'

train_dataloader = dict(
    sampler=dict(ratios=[3, 1, 1, 1]),
    dataset=dict(datasets=[
        dict(**_d, pipeline=_base_._train_pipeline)
        for _d in (_base_._coco_panoptic_train, *_base_._refcoco_train)
    ]))
