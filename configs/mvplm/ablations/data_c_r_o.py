# Table 6, C + R + O: without grounding; the others keep their shares of each other.
_base_ = 'data_c_r_o_g.py'

train_dataloader = dict(
    sampler=dict(ratios=[6, 2, 2, 2, 3]),
    dataset=dict(datasets=[
        dict(**_d, pipeline=_base_._train_pipeline)
        for _d in (_base_._coco_panoptic_train, *_base_._refcoco_train,
                   _base_._objects365_train)
    ]))
