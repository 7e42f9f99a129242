# Copyright (c) mvp_mm authors. All rights reserved.
"""Turns labels of your own, in labelling tools' formats, into files and a fine-tuning config."""
from __future__ import annotations

from mvp_mm.own_data.formats import read_labels
from mvp_mm.own_data.labels import LabeledDataset, LabeledImage, LabeledObject, LabelError
from mvp_mm.own_data.split import split_dataset
from mvp_mm.own_data.write import write_dataset

__all__ = ['LabelError', 'LabeledDataset', 'LabeledImage', 'LabeledObject', 'read_labels',
           'split_dataset', 'write_dataset']
