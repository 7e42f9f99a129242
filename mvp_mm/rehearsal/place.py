# Copyright (c) mvp_mm authors. All rights reserved.
"""Fills a folder with everything that the full-size commands read."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mvp_mm.engine.config_loading import load_datasets
from mvp_mm.rehearsal.small_parts import write_small_parts
from mvp_mm.rehearsal.trees.boxes import write_goldg, write_objects365, write_odinw
from mvp_mm.rehearsal.trees.coco import HELD_OUT, TRAIN, write_coco
from mvp_mm.rehearsal.trees.maps import write_ade20k, write_cityscapes, write_voc
from mvp_mm.rehearsal.trees.refer import write_reason_seg, write_ref_adv, write_refer
from mvp_mm.rehearsal.trees.texts import write_cc3m, write_own_labels, write_store, write_tars
from mvp_mm.rehearsal.weights import write_maskdino, write_phi, write_released, write_swin
from mvp_mm.synthetic import WorldParameters, make_world
from mvp_mm.utils.shipped import PACKAGE, shipped_root

RELEASED = 'downloads/mvp_lm.bin'
SWIN = 'downloads/swin_base_patch4_window12_384_22k.pth'
DETECTOR, FUSED_PHI, PHI = 'model_final.pth', 'downloads/phi-1_5_dev', 'checkpoints/phi-1_5'
SHIPPED = ('configs', 'tools', 'demo')

_TREES: dict[str, Callable[[Path], None]] = dict(
    coco=write_coco, refer=write_refer, ref_adv=write_ref_adv, ReasonSeg=write_reason_seg,
    objects365=write_objects365, goldg=write_goldg, ADEChallengeData2016=write_ade20k,
    cityscapes=write_cityscapes, VOCdevkit=write_voc, cc3m=write_cc3m, cc3m_tars=write_tars,
    own=write_own_labels)


def make_place(folder: Path, data: Path | None = None, llm: Path | None = None) -> list[str]:
    """Make the folder that the commands are typed in.

    Args:
        folder: A new or empty folder. It gets links to the shipped configs, tools and weights,
            ``data/`` with every dataset in miniature, ``checkpoints/`` and ``downloads/`` with
            the public files of weights.
        data: A user's own folder of datasets. Those that it has are linked, not fabricated.
        llm: A user's own folder of Phi-1.5, whose tokenizer takes the fabricated one's place.

    Returns:
        Names of the datasets' folders that are the user's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in SHIPPED:
        (folder / name).symlink_to(shipped_root() / name)
    # As in a checkout: a config starts from weights that come with the package.
    (folder / PACKAGE.name).symlink_to(PACKAGE)
    own = [] if data is None else [
        name for name in (*_TREES, 'odinw') if name != 'own' and (data / name).is_dir()]
    _write_datasets(folder, own)
    for name in own:
        (folder / 'data' / name).symlink_to((data / name).resolve())
    write_swin(folder / SWIN)
    write_small_parts(folder)
    write_maskdino(folder / DETECTOR)
    write_phi(folder / PHI, tokenizer=llm)
    write_phi(folder / FUSED_PHI, fused=True)
    write_released(folder / RELEASED)
    return own


def _write_datasets(folder: Path, own: list[str]) -> None:
    data = folder / 'data'
    if 'coco' not in own:
        _link_elsewhere(data / 'coco', folder.resolve() / 'disk/coco')
    for name, write in _TREES.items():
        if name not in own:
            write(data / name)
    if 'odinw' not in own:
        write_odinw(data / 'odinw', load_datasets(folder / 'configs/_base_/datasets.py'))
    _write_captions(data, own)
    make_world(data / 'synthetic', WorldParameters(seed=0, train=6, val=2), workers=1)
    # Sample data of configs/mvplm/mini_coco.py.
    write_coco(folder / 'samples/coco')
    write_refer(folder / 'samples/refer')
    (folder / 'samples/gpt2_bpe').symlink_to(folder.resolve() / PHI)


def _write_captions(data: Path, own: list[str]) -> None:
    """Write captions of fabricated training images, where the configs look for them."""
    numbers = (*TRAIN, HELD_OUT)
    stores = {'coco/captions/coco_train2017.jsonl': [f'{n:012d}.jpg' for n in numbers],
              'refer/captions/coco_train2014.jsonl': [
                  f'COCO_train2014_{n:012d}.jpg' for n in numbers]}
    for store, images in (('objects365/captions/objects365_train.jsonl', 'train'),
                          ('ADEChallengeData2016/captions/ade20k_train.jsonl', 'images/training'),
                          ('cityscapes/captions/cityscapes_train.jsonl', 'leftImg8bit/train')):
        root = data / Path(store).parts[0] / images
        stores[store] = [str(path.relative_to(root)) for path in sorted(root.rglob('*.*'))]
    # Cityscapes' panoptic file calls its images by a name of cityscapesScripts.
    city = stores['cityscapes/captions/cityscapes_train.jsonl']
    city += [Path(name).name.replace('_leftImg8bit', '_gtFine_leftImg8bit') for name in city]
    for store, names in stores.items():
        if Path(store).parts[0] not in own:
            write_store(data / store, names)


def _link_elsewhere(link: Path, target: Path) -> None:
    """COCO lies on another disk, as docs/reference/datasets.md advises."""
    target.mkdir(parents=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
