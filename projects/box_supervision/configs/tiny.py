# Things with boxes alone also train the mask head. On the 64 x 64 grid of the tiny model neighbours
# are two cells apart, 4 pixels.
_base_ = '../../../configs/mvplm/tiny/pretrained.py'
custom_imports = dict(imports=['projects.box_supervision.box_supervision'])

model = dict(
    type='BoxSupervisedMVPLM',
    perception=dict(criterion=dict(type='BoxSupervisedCriterion')))
