# Any data in ODVG lines: detection with a label map, or grounding. The paths are the ones that
# converters of Objects365 and GoldG to this format use.
_odvg = dict(
    odvg_detection=dict(
        type='OdvgDataset',
        data_root='data/objects365',
        ann_file='annotations/o365v2_train_odvg.jsonl',
        label_map_file='annotations/o365v2_label_map.json',
        name_style='objects365',
        data_prefix=dict(img='train'),
        caption_store='captions/objects365_train.jsonl',
        tasks=[dict(type='DetectionTask', num_negatives=(60, 120))]),
    odvg_grounding=dict(
        type='OdvgDataset',
        data_root='data/goldg',
        ann_file='annotations/final_flickr_separateGT_train_vg.json',
        data_prefix=dict(img='flickr30k/images'),
        tasks=[dict(type='PhraseGroundingTask', max_negatives=80)]))
