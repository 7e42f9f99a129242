# All benchmarks of configs/mvplm/eval on the model with our additions. One of them alone:
#   MVP_MM_MODEL=../plus/stage2.py python tools/test.py configs/mvplm/eval/refcoco.py CHECKPOINT
_base_ = ['./stage2.py', '../../_base_/benchmarks.py']

datasets = _base_._benchmark_datasets
validation_images = None
test_dataloader = dict(_delete_=True, **_base_._benchmarks)
