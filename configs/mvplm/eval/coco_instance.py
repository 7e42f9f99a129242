# COCO instances val2017: box and mask AP.
_base_ = './all.py'

test_dataloader = dict(_delete_=True, coco_instance=_base_.test_dataloader.coco_instance)
