_cc3m = dict(
    # CC3M image-caption pairs in LLaVA's pre-training JSON (stage 1).
    cc3m=dict(
        type='CaptionDataset',
        data_root='data/cc3m',
        ann_file='chat.json',
        data_prefix=dict(img='images'),
        tasks=[dict(type='CaptionTask')]),
    # The same pairs in WebDataset tars; the index is made by tools/data/index_tars.py.
    cc3m_tars=dict(
        type='TarCaptionDataset',
        data_root='data/cc3m_tars',
        ann_file='index.jsonl',
        data_prefix=dict(img=''),
        tasks=[dict(type='CaptionTask')],
        pipeline='train_tar'))
