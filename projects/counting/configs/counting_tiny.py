# Counts the things of the synthetic world with a model of configs/mvplm/tiny/pretrained.py.
_base_ = '../../../configs/mvplm/tiny/pretrained.py'
custom_imports = dict(imports=['projects.counting.counting'])

_counting = dict(type='CountingTask')
datasets = dict(
    syn_objects365_val=dict(tasks=[_counting], metrics=[dict(type='CountingMetric')]))
test_dataloader = dict(_delete_=True, counting=dict(dataset='syn_objects365_val'))
inferencer = dict(tasks=dict(counting=_counting))
