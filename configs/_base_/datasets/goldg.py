# GoldG: GQA/VG ("mixed") and Flickr30k with phrases grounded in captions, MDETR-style JSON.
_goldg_phrases = dict(
    type='GroundingDataset',
    data_root='data/goldg',
    tasks=[dict(type='PhraseGroundingTask', max_negatives=80)])
_goldg = dict(
    # final_mixed_train.json has COCO's images too: add coco='coco/train2014' to its prefixes to
    # use them; without it they are left out.
    goldg_mixed_train=dict(
        _goldg_phrases,
        ann_file='annotations/final_mixed_train_no_coco.json',
        data_prefix=dict(img='gqa/images')),
    goldg_flickr_train=dict(
        _goldg_phrases,
        ann_file='annotations/final_flickr_separateGT_train.json',
        data_prefix=dict(img='flickr30k/images')),
    # The caption's phrases are the question, and no caption is generated before the answer.
    # Recall at 10 looks at the 10 best boxes of each phrase.
    flickr30k_val=dict(
        _goldg_phrases,
        ann_file='annotations/final_flickr_separateGT_val.json',
        data_prefix=dict(img='flickr30k/images'),
        test_mode=True,
        tasks=[dict(type='PhraseGroundingTask', max_per_phrase=10)],
        metrics=[dict(type='GroundingRecallMetric')]))
