# Cityscapes, open vocabulary: PQ and mIoU from one forward pass.
_base_ = './all.py'

test_dataloader = dict(_delete_=True, cityscapes=_base_.test_dataloader.cityscapes)
