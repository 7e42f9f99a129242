# Table 7, "None": the response is the result alone, and nothing is written at test time.
_base_ = 'coco_refcoco.py'
model = dict(thinking=False)

datasets = {
    _name: dict(tasks=[dict(_t, response='none') for _t in _base_.datasets[_name].tasks])
    for _name in _base_.train_dataloader.mix
}
