# Counts the things of the synthetic world with a model of configs/mvplm/tiny/stage2.py.
_base_ = '../../../configs/mvplm/tiny/stage2.py'
custom_imports = dict(imports=['mvp_mm', 'projects.counting.counting'])

_counting = dict(type='CountingTask')
_counting_val = dict(_base_._syn_objects365_val, tasks=[_counting])
test_dataloader = dict(
    _delete_=True,
    counting=dict(
        **_base_._test_loader, dataset=dict(**_counting_val, pipeline=_base_._test_pipeline)))
test_evaluator = dict(_delete_=True, counting=[dict(type='CountingMetric')])
inferencer = dict(tasks=dict(counting=_counting))
