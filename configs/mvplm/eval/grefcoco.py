# gRefCOCO, every split: gIoU, cIoU, N-acc, T-acc.
_base_ = './all.py'

_names = [_name for _name in _base_.test_dataloader if _name.startswith('grefcoco_')]
test_dataloader = dict(_delete_=True, **{_n: _base_.test_dataloader[_n] for _n in _names})
