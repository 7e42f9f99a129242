# GoldG: GQA/VG ("mixed") and Flickr30k with phrases grounded in captions, MDETR-style JSON.
_goldg_train = [
    dict(
        type='GroundingDataset',
        data_root='data/goldg',
        ann_file='annotations/final_mixed_train.json',
        data_prefix=dict(img='gqa/images'),
        tasks=[dict(type='PhraseGroundingTask', max_negatives=80)]),
    dict(
        type='GroundingDataset',
        data_root='data/goldg',
        ann_file='annotations/final_flickr_separateGT_train.json',
        data_prefix=dict(img='flickr30k/images'),
        tasks=[dict(type='PhraseGroundingTask', max_negatives=80)])
]
