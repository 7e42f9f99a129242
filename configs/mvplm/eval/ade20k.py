# ADE20K, open vocabulary: PQ and mIoU from one forward pass.
_base_ = './all.py'

test_dataloader = dict(_delete_=True, ade20k=_base_.test_dataloader.ade20k)
