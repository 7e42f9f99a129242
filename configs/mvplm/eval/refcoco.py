# RefCOCO, every split, per sentence and joined: cIoU, gIoU, P@0.5 to 0.9, REC.
_base_ = './all.py'

_names = [_name for _name in _base_.test_dataloader if _name.startswith('refcoco_')]
test_dataloader = dict(_delete_=True, **{_n: _base_.test_dataloader[_n] for _n in _names})
