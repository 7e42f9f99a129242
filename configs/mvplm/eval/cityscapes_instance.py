# Cityscapes instances, open vocabulary: box and mask AP.
_base_ = './all.py'

_name = 'cityscapes_instance'
test_dataloader = dict(_delete_=True, **{_name: _base_.test_dataloader[_name]})
