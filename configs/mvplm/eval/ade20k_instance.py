# ADE20K instances, open vocabulary: box and mask AP.
_base_ = './all.py'

test_dataloader = dict(_delete_=True, ade20k_instance=_base_.test_dataloader.ade20k_instance)
