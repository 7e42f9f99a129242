# COCO panoptic val2017: PQ, mIoU and AP on panoptic segments from one forward pass.
_base_ = './all.py'

test_dataloader = dict(_delete_=True, coco_panoptic=_base_.test_dataloader.coco_panoptic)
