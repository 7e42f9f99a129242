# All benchmarks (configs/_base_/benchmarks.py). They hold data and metrics alone and stand on a
# model's config, by default the paper's; MVP_MM_MODEL names another that inherits stage2.py
# (docs/reference/benchmarks.md).
_base_ = ['{{$MVP_MM_MODEL:../stage2.py}}', '../../_base_/benchmarks.py']

datasets = _base_._benchmark_datasets
validation_images = None
test_dataloader = dict(_delete_=True, **_base_._benchmarks)
