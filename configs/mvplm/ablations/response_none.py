# Table 7, "None": the response is the result alone, and nothing is written at test time.
_base_ = 'coco_refcoco.py'
model = dict(thinking=False)

train_dataloader = dict(
    dataset=dict(datasets=[
        dict(_d, tasks=[dict(_t, response='none') for _t in _d['tasks']],
             pipeline=_base_._train_pipeline) for _d in _base_._mix
    ]))
