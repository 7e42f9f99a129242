# Pascal Context, 59 classes, open vocabulary: mIoU.
_base_ = './all.py'

test_dataloader = dict(_delete_=True, pascal_context59=_base_.test_dataloader.pascal_context59)
