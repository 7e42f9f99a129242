# Loads the generators of this plugin; recipes.yml names those that are compared.
_base_ = '../../../configs/mvplm/tiny/pretrained.py'
custom_imports = dict(imports=['projects.query_initialisation.query_initialisation'])
