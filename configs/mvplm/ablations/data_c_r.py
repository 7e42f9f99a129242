# Table 6, C + R: COCO panoptic and RefCOCO/+/g.
_base_ = 'data_c_r_o_g.py'

train_dataloader = dict(mix=dict(
    _delete_=True, coco_panoptic_train=3, refcoco_train=1, refcoco_plus_train=1, refcocog_train=1))
