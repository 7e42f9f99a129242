# Copyright (c) mvp_mm authors. All rights reserved.
from __future__ import annotations

from mvp_mm.datasets.base import PerceptionDataset
from mvp_mm.datasets.captions import CaptionRefiner, CaptionStore
from mvp_mm.datasets.collate import perception_collate
from mvp_mm.datasets.readers.box_detection import BoxDetectionDataset
from mvp_mm.datasets.readers.caption import CaptionDataset
from mvp_mm.datasets.readers.cityscapes import CityscapesPanopticDataset
from mvp_mm.datasets.readers.coco_caption import CocoCaptionDataset
from mvp_mm.datasets.readers.coco_instance import CocoInstanceDataset
from mvp_mm.datasets.readers.coco_panoptic import CocoPanopticDataset
from mvp_mm.datasets.readers.grefcoco import GRefCocoDataset
from mvp_mm.datasets.readers.grounding import GroundingDataset
from mvp_mm.datasets.readers.lvis import LvisDataset
from mvp_mm.datasets.readers.multi_source import MultiSourceDataset
from mvp_mm.datasets.readers.objects365 import Objects365Dataset
from mvp_mm.datasets.readers.odvg import OdvgDataset
from mvp_mm.datasets.readers.reason_seg import ReasonSegDataset
from mvp_mm.datasets.readers.ref_adv import RefAdvDataset
from mvp_mm.datasets.readers.refcoco import RefCocoDataset
from mvp_mm.datasets.readers.refcoco_m import RefCocoMDataset
from mvp_mm.datasets.readers.semantic_map import LoadSemanticMap, SemanticMapDataset
from mvp_mm.datasets.readers.tar_images import LoadImageFromTar, TarCaptionDataset
from mvp_mm.datasets.samplers import *  # noqa: F401, F403
from mvp_mm.datasets.transforms import *  # noqa: F401, F403

__all__ = [
    'BoxDetectionDataset', 'CaptionDataset', 'CaptionRefiner', 'CaptionStore',
    'CityscapesPanopticDataset', 'CocoCaptionDataset', 'CocoInstanceDataset',
    'CocoPanopticDataset', 'GRefCocoDataset', 'GroundingDataset',
    'MultiSourceDataset', 'LoadImageFromTar', 'LoadSemanticMap', 'LvisDataset', 'Objects365Dataset',
    'OdvgDataset', 'PerceptionDataset', 'ReasonSegDataset', 'RefAdvDataset', 'RefCocoDataset',
    'RefCocoMDataset', 'SemanticMapDataset',
    'TarCaptionDataset', 'perception_collate'
]
