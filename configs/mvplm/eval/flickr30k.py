# Flickr30k Entities: recall at 1, 5 and 10.
_base_ = './all.py'

test_dataloader = dict(_delete_=True, flickr30k=_base_.test_dataloader.flickr30k)
