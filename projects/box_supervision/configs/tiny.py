# Things with boxes alone also train the mask head. On the 32 x 32 grid of the tiny model neighbours
# are next to each other.
_base_ = '../../../configs/mvplm/tiny/pretrained.py'
custom_imports = dict(imports=['projects.box_supervision.box_supervision'])

model = dict(
    type='BoxSupervisedMVPLM',
    perception=dict(criterion=dict(type='BoxSupervisedCriterion', dilation=1)))
