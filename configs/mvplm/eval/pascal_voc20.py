# Pascal VOC, 20 classes, open vocabulary: mIoU.
_base_ = './all.py'

test_dataloader = dict(_delete_=True, pascal_voc20=_base_.test_dataloader.pascal_voc20)
