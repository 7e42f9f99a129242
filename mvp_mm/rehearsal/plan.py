# Copyright (c) mvp_mm authors. All rights reserved.
"""Lists the commands of a full-size project, in the order in which they are typed."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mvp_mm.engine import load_config
from mvp_mm.rehearsal import sizes
from mvp_mm.rehearsal.checks import (
    full_rows,
    keep,
    left_in_file,
    named_as_in_recipe,
    scores_all,
    starts_from,
    together,
)
from mvp_mm.rehearsal.leaves import CONFIGS, find_leaves
from mvp_mm.rehearsal.place import DETECTOR, FUSED_PHI, PHI, RELEASED, SWIN
from mvp_mm.rehearsal.step import Step

STAGE1, STAGE2, SHARDED = (f'{CONFIGS}/{name}.py' for name in
                           ('stage1', 'stage2', 'stage2_sharded'))
RELEASED_LEAF, MINI_COCO = f'{CONFIGS}/released/stage2.py', f'{CONFIGS}/mini_coco.py'
# What the documentation calls CHECKPOINT: the last one of stage 2.
CHECKPOINT = 'CHECKPOINT'
_STAGE1_CHECKPOINT = 'work_dirs/stage1/iter_4650.pth'
_PERCEPTION, _RELEASED = 'checkpoints/perception.pth', 'checkpoints/released.pth'
# Small by themselves, as all of tiny/ are.
_TINY = (MINI_COCO, f'{CONFIGS}/released/tiny.py', f'{CONFIGS}/finetune/tiny.py')
_TINY_OPTIONS = {'model.max_response_tokens': sizes.MODEL_OPTIONS['model.max_response_tokens']}
# The configs for one GPU. Two of them are tested too: on COCO, and on the sample photographs.
_SMALL = f'{CONFIGS}/small/'
_SMALL_TESTED = (f'{_SMALL}lite0_smollm2-135m_512.py', f'{_SMALL}mini_coco.py')
_SAMPLES = dict(MVP_MM_SAMPLE_DATA='samples')
# Two images per step; four on two processes, or on one by gradient accumulation.
_TWO, _FOUR = ({'total_batch_size': total, 'train_dataloader.batch_size': 2} for total in (2, 4))
_ENCODER = ('model.encoder.backbone.init_cfg.type=Pretrained '
            f'model.encoder.backbone.init_cfg.checkpoint={SWIN} '
            'model.encoder.backbone.convert_weights=True')
_SETTINGS = ('model.pixel_decoder.position.type=DetrPosition '
             'model.perception.decoder.type=DINODecoder')
# Both halves of the decoder, which the plain route leaves at random values.
_RANDOM = ('pixel_decoder', 'perception.decoder')
# Of a detector's file: its classes, their embedding, a loss's buffer.
_NO_PLACE = ('sem_seg_head.predictor', 'criterion.empty_weight')


def phases() -> list[tuple[list[Step], list[Step]]]:
    """List all commands.

    Returns:
        Phases, one after the other. The two lists of a phase do not depend on each other and run
        side by side; the first has the commands that run in processes of their own.
    """
    leaves = find_leaves()
    small = [leaf for leaf in leaves if leaf.startswith(_SMALL)]
    apart = [*small, *(leaf for leaf in leaves if _is_tiny(leaf) or leaf == RELEASED_LEAF)]
    others = [leaf for leaf in leaves if leaf not in (STAGE1, STAGE2, SHARDED, *apart)
              and not _is_evaluation(leaf)]
    return [
        ([*chain_steps()], [*data_steps(), *_train_and_test(apart)]),
        ([*process_steps()], [*_train_and_test(others), *evaluation_steps(leaves), *use_steps()]),
        ([], [*pretrained_steps()]),
    ]


def data_steps() -> Iterator[Step]:
    """Prepare and check the datasets, as ``docs/reference/datasets.md`` says."""
    yield Step('python tools/data/prepare_pascal_context.py data/VOCdevkit/VOC2010')
    yield Step('python tools/data/index_tars.py data/cc3m_tars')
    yield Step('python tools/data/train_tokenizer.py --world data/synthetic '
               '--out data/synthetic/tokenizer')
    yield Step('python tools/data/check_dataset.py data/coco --format coco_panoptic_train')
    yield Step('python tools/data/check_dataset.py configs/_base_/datasets.py --out report.json')
    yield Step(f'python tools/data/check_dataset.py {STAGE2}')
    yield Step('python tools/data/list_held_out_images.py "data/refer/refcoco/refs(unc).p" '
               '"data/refer/grefcoco/grefs(unc).json" '
               '--coco data/coco/annotations/panoptic_train2017.json --out held_out.txt')
    yield Step(f'python tools/analysis_tools/browse_dataset.py {STAGE2} --out work_dirs/browse '
               '--number 2')
    yield Step(f'python tools/misc/print_config.py {STAGE2} --diff')
    yield Step(f'python tools/misc/print_config.py {CONFIGS}/plus/stage2.py --diff')
    yield Step(f'python tools/model_converters/convert_phi.py {FUSED_PHI} '
               '--out checkpoints/phi-1_5_converted')
    yield Step(f'python tools/model_converters/convert_weights.py {RELEASED_LEAF} {RELEASED} '
               f'--out {_RELEASED}', sizes=sizes.RELEASED_OPTIONS, after=left_in_file(()))
    yield Step(f'python tools/model_converters/convert_weights.py {STAGE2} {DETECTOR} '
               f'--out {_PERCEPTION} --cfg-options {_SETTINGS}', after=left_in_file(_NO_PLACE))


def chain_steps() -> Iterator[Step]:
    """Train both stages, resume and test in processes of their own, as the README says."""
    yield Step(f'bash tools/dist_train.sh {STAGE1} 2 --cfg-options {_ENCODER}', separate=True,
               sizes=_FOUR, after=together(
                   starts_from(SWIN, PHI), named_as_in_recipe(STAGE1, STAGE2)))
    yield Step(f'bash tools/dist_train.sh {STAGE2} 2', separate=True, sizes=_FOUR,
               needs=(_STAGE1_CHECKPOINT, ),
               after=starts_from(_STAGE1_CHECKPOINT, PHI, random=_RANDOM))
    yield Step(f'bash tools/dist_train.sh {STAGE2} 2 --resume', separate=True,
               sizes={**_FOUR, 'train_cfg.max_iters': 2 * sizes.STEPS},
               needs=('work_dirs/stage2/last_checkpoint', ), after=keep(STAGE2, CHECKPOINT))
    yield Step(f'python tools/test.py {STAGE2} {CHECKPOINT} --show-dir pictures '
               '--out predictions', separate=True, needs=(CHECKPOINT, ))


def process_steps() -> Iterator[Step]:
    """Train with FSDP, and test its checkpoint as any other on two processes."""
    yield Step(f'bash tools/dist_train.sh {SHARDED} 2', separate=True, sizes=_FOUR,
               needs=(_STAGE1_CHECKPOINT, ), after=keep(SHARDED, 'sharded.pth'))
    yield Step(f'bash tools/dist_test.sh {STAGE2} sharded.pth 2 '
               '--work-dir work_dirs/stage2_sharded_test', separate=True,
               needs=('sharded.pth', ))


def _train_and_test(leaves: list[str]) -> list[Step]:
    return [step for leaf in leaves
            for step in (small_steps if leaf.startswith(_SMALL) else leaf_steps)(leaf)]


def leaf_steps(leaf: str) -> Iterator[Step]:
    """Train a config from the checkpoint that its recipe names, and test it with its own.

    Args:
        leaf: The config, as it is typed.
    """
    name = leaf.removeprefix(f'{CONFIGS}/').removesuffix('.py').replace('/', '_')
    kept, small = f'{name}.pth', _is_tiny(leaf)
    settings, start, needs, random = dict(_TWO), '', (_STAGE1_CHECKPOINT, ), _RANDOM
    environment = _SAMPLES if leaf == MINI_COCO else {}
    if small:
        settings, random = {**_TINY_OPTIONS, 'train_dataloader.batch_size': 2}, ()
        needs = tuple(filter(None, [load_config(leaf).load_from]))
    elif leaf.startswith(f'{CONFIGS}/finetune/'):
        start, needs, random = f' --load-from {CHECKPOINT}', (CHECKPOINT, ), ()
    elif leaf == RELEASED_LEAF:
        settings.update(sizes.RELEASED_OPTIONS)
        start, needs, random = f' --load-from {_RELEASED}', (_RELEASED, ), ()
    yield Step(f'python tools/train.py {leaf}{start}', sizes=settings,
               keeps_sizes=small, environment=environment, needs=needs,
               after=together(starts_from(*needs, random=random), keep(leaf, kept)))
    if 'stage1' in name:
        return
    tested = {key: value for key, value in settings.items() if key.startswith('model.')}
    yield Step(f'python tools/test.py {leaf} {kept}', sizes=tested, keeps_sizes=small,
               environment=environment, needs=(kept, ))


def small_steps(leaf: str) -> Iterator[Step]:
    """Train a config for one GPU from timm's file of its encoder and the folder of its LLM.

    Those that are not tested take a single step: it loads, trains and saves the same parts.

    Args:
        leaf: The config, as it is typed.
    """
    name = Path(leaf).stem
    kept, encoder = f'small_{name}.pth', name.partition('-')[0]
    environment = _SAMPLES if name == 'mini_coco' else {}
    model = load_config(leaf).model
    parts = (model.encoder.backbone.pretrained_path, model.llm.pretrained)
    tested = leaf in _SMALL_TESTED
    options = {**sizes.TIMM_OPTIONS, **sizes.SMALL_OPTIONS.get(encoder, {})}
    yield Step(f'python tools/train.py {leaf}', environment=environment, needs=parts,
               sizes={**options, **_TWO, **({} if tested else sizes.ONE_STEP)},
               after=together(starts_from(*parts), keep(leaf, kept)))
    if tested:
        yield Step(f'python tools/test.py {leaf} {kept}', sizes=options, needs=(kept, ),
                   environment=environment, after=scores_all(leaf))


def evaluation_steps(leaves: list[str]) -> Iterator[Step]:
    """Run every benchmark, alone and together, and print the paper's tables."""
    for leaf in leaves:
        if not _is_evaluation(leaf):
            continue
        folder = Path(leaf).parent.name
        checkpoint = CHECKPOINT if folder == 'eval' else f'{folder}_stage2.pth'
        whole = Path(leaf).stem in ('all', 'eval')
        yield Step(f'python tools/test.py {leaf} {checkpoint}', needs=(checkpoint, ),
                   after=scores_all(leaf) if whole else None)
    yield Step('python tools/paper_tables.py work_dirs/eval/all', needs=('work_dirs/eval/all', ),
               after=full_rows)


def use_steps() -> Iterator[Step]:
    """Fine-tune on labels of one's own, score saved predictions, ask about an image."""
    yield Step('python tools/data/prepare_own_data.py data/own/train.json --images '
               f'data/own/images --out data/mine --base {CONFIGS}/finetune/lora.py')
    yield Step(f'python tools/train.py data/mine/config.py --load-from {CHECKPOINT}', sizes=_TWO,
               needs=('data/mine/config.py', CHECKPOINT),
               after=keep('data/mine/config.py', 'mine.pth'))
    yield Step('python tools/test.py data/mine/config.py mine.pth', needs=('mine.pth', ))
    yield Step(f'python tools/analysis_tools/eval_metric.py {STAGE2} predictions',
               needs=('predictions', ))
    asked = ('python demo/image_demo.py data/coco/val2017/000000000139.jpg '
             f'--config work_dirs/stage2/stage2.py --weights {CHECKPOINT}')
    yield Step(f'{asked} --task panoptic --words chair,table,floor', needs=(CHECKPOINT, ))
    yield Step(f'{asked} --task referring_segmentation --text "the left chair"',
               needs=(CHECKPOINT, ))


def pretrained_steps() -> Iterator[Step]:
    """Start from a pretrained decoder, as ``docs/reference/weights.md`` says."""
    yield Step(f'python tools/train.py {STAGE1} --load-from {_PERCEPTION} '
               f'--cfg-options {_SETTINGS}', sizes=_TWO, needs=(_PERCEPTION, ),
               after=together(starts_from(_PERCEPTION, PHI), named_as_in_recipe(STAGE1, STAGE2)))
    yield Step(f'python tools/train.py {STAGE2} --work-dir work_dirs/pretrained '
               f'--cfg-options {_SETTINGS}', sizes=_FOUR, needs=(_STAGE1_CHECKPOINT, ),
               after=starts_from(_PERCEPTION, _STAGE1_CHECKPOINT, PHI))


def _is_tiny(leaf: str) -> bool:
    return leaf in _TINY or leaf.startswith(f'{CONFIGS}/tiny/')


def _is_evaluation(leaf: str) -> bool:
    return Path(leaf).parent.name == 'eval' or Path(leaf).stem == 'eval'
