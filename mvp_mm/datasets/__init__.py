# Copyright (c) mvp_mm authors. All rights reserved.
from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.datasets.box_detection import BoxDetectionDataset
from mvp_mm.datasets.caption import CaptionDataset
from mvp_mm.datasets.captions import CaptionRefiner, CaptionStore
from mvp_mm.datasets.coco_instance import CocoInstanceDataset
from mvp_mm.datasets.coco_panoptic import CocoPanopticDataset
from mvp_mm.datasets.collate import perception_collate
from mvp_mm.datasets.grefcoco import GRefCocoDataset
from mvp_mm.datasets.grounding import GroundingDataset
from mvp_mm.datasets.instruction_tokenizer import InstructionTokenizer
from mvp_mm.datasets.joined import JoinedDataset
from mvp_mm.datasets.refcoco import RefCocoDataset
from mvp_mm.datasets.samplers import *  # noqa: F401, F403
from mvp_mm.datasets.transforms import *  # noqa: F401, F403

__all__ = [
    'BoxDetectionDataset', 'CaptionDataset', 'CaptionRefiner', 'CaptionStore',
    'CocoInstanceDataset', 'CocoPanopticDataset', 'GRefCocoDataset', 'GroundingDataset',
    'InstructionTokenizer', 'JoinedDataset', 'PerceptionDataset', 'RefCocoDataset',
    'perception_collate'
]
