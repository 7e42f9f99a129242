# Table 6, C + R + O: without grounding; the others keep their shares of each other.
_base_ = 'data_c_r_o_g.py'

train_dataloader = dict(mix=dict(goldg_mixed_train=0, goldg_flickr_train=0))
