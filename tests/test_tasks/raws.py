# Copyright (c) mvp_mm authors. All rights reserved.
"""Raw predictions and samples for tests of decoding."""
from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from mvp_mm.structures import (
    Answering,
    Instruction,
    PerceptionDataSample,
    RawPrediction,
    Segment,
    SegmentKind,
)

META = dict(ori_shape=(30, 50), img_shape=(38, 64), batch_input_shape=(64, 64))
THINGS = (True, False, True, False)


def make_sample(is_thing=THINGS, use_stuff_queries=False, meta=META):
    phrases = [f'phrase {k}' for k in range(len(is_thing))]
    instruction = Instruction(
        task='any', kind='word', prompt=[Segment(SegmentKind.PHRASE, p) for p in phrases],
        response=[], phrases=phrases, is_thing=np.array(is_thing, dtype=bool),
        use_stuff_queries=use_stuff_queries)
    sample = PerceptionDataSample(metainfo=meta)
    sample.instruction = instruction
    return sample


def make_raw(seed, queries=12, phrases=4, dynamic=8, sentence=False, **answering):
    generator = torch.Generator().manual_seed(seed)
    shape = (queries,) if sentence else (queries, phrases + 1)
    masks = torch.randn(queries, 6, 6, generator=generator) * 4
    return RawPrediction(
        logits=torch.randn(*shape, generator=generator) * 2,
        boxes=torch.rand(queries, 4, generator=generator) * 0.5,
        mask_logits=F.interpolate(masks[None], (16, 16), mode='bilinear')[0], num_dynamic=dynamic,
        answering=Answering(**answering))
