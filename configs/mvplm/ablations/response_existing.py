# Table 7, "Existing Obj.": names or descriptions of what is there stand before the result.
_base_ = 'coco_refcoco.py'

train_dataloader = dict(
    dataset=dict(datasets=[
        dict(_d, tasks=[dict(_t, response='existing') for _t in _d['tasks']],
             pipeline=_base_._train_pipeline) for _d in _base_._mix
    ]))
