# LVIS v1, 1 203 names asked of every image.
_base_ = './all.py'

test_dataloader = dict(_delete_=True, lvis=_base_.test_dataloader.lvis)
