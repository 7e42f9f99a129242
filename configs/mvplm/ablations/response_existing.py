# Table 7, "Existing Obj.": names or descriptions of what is there stand before the result.
_base_ = 'coco_refcoco.py'

datasets = {
    _name: dict(tasks=[dict(_t, response='existing') for _t in _base_.datasets[_name].tasks])
    for _name in _base_.train_dataloader.mix
}
