# Copyright (c) mvp_mm authors. All rights reserved.
from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.datasets.box_detection import BoxDetectionDataset
from mvp_mm.datasets.caption import CaptionDataset
from mvp_mm.datasets.captions import CaptionRefiner, CaptionStore
from mvp_mm.datasets.cityscapes import CityscapesPanopticDataset
from mvp_mm.datasets.coco_caption import CocoCaptionDataset
from mvp_mm.datasets.coco_instance import CocoInstanceDataset
from mvp_mm.datasets.coco_panoptic import CocoPanopticDataset
from mvp_mm.datasets.collate import perception_collate
from mvp_mm.datasets.grefcoco import GRefCocoDataset
from mvp_mm.datasets.grounding import GroundingDataset
from mvp_mm.datasets.instruction_tokenizer import InstructionTokenizer
from mvp_mm.datasets.joined import JoinedDataset
from mvp_mm.datasets.lvis import LvisDataset
from mvp_mm.datasets.objects365 import Objects365Dataset
from mvp_mm.datasets.odvg import OdvgDataset
from mvp_mm.datasets.refcoco import RefCocoDataset
from mvp_mm.datasets.samplers import *  # noqa: F401, F403
from mvp_mm.datasets.semantic_map import LoadSemanticMap, SemanticMapDataset
from mvp_mm.datasets.tar_images import LoadImageFromTar, TarCaptionDataset
from mvp_mm.datasets.transforms import *  # noqa: F401, F403

__all__ = [
    'BoxDetectionDataset', 'CaptionDataset', 'CaptionRefiner', 'CaptionStore',
    'CityscapesPanopticDataset', 'CocoCaptionDataset', 'CocoInstanceDataset',
    'CocoPanopticDataset', 'GRefCocoDataset', 'GroundingDataset', 'InstructionTokenizer',
    'JoinedDataset', 'LoadImageFromTar', 'LoadSemanticMap', 'LvisDataset', 'Objects365Dataset',
    'OdvgDataset', 'PerceptionDataset', 'RefCocoDataset', 'SemanticMapDataset',
    'TarCaptionDataset', 'perception_collate'
]
