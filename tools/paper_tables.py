# Copyright (c) mvp_mm authors. All rights reserved.
"""Print tables 3, 4 and 5 of the MVP-LM paper in Markdown, with figures of our own beside them."""
from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

# Published figures as the paper (arXiv 2507.16213) prints them; - is "not reported" there.
TABLE_3 = """
Mask2Former | Swin-B | 55.1 65.1 - - - - -
OneFormer | Swin-L | 57.9 67.4 - - - - -
OpenSeeD | Swin-L | 59.5 68.6 19.7 23.4 41.4 - -
SEEM | DaViT-B | 56.1 66.3 - - - - -
MaskCLIP | ViT-L | 30.9 47.6 15.1 23.7 - 45.9 -
SimBaseline | ViT-B | - - - 20.5 - 47.7 88.4
DeOP | ResNet-101c | - - - 22.9 - 48.8 91.7
DaTaSeg | ViTDet-B | 52.8 62.7 12.3 18.3 28.0 51.1 -
OMG-LLaVA | ConvNeXt-L | 53.8 - - - - - -
PSALM | Swin-B | 55.9 66.6 13.7 18.2 28.8 48.5 81.3
MVP-LM | Swin-B | 56.1 66.8 19.4 20.5 35.3 44.1 85.7
"""
TABLE_4 = """
VLT | specialist | 67.5 70.5 65.2 56.3 61.0 50.1 55.0 57.7 52.5 62.2 50.5
CRIS | specialist | 70.5 73.2 66.1 62.3 68.1 53.7 59.9 60.4 55.3 63.8 51.0
LAVT | specialist | 72.7 75.8 68.8 62.1 68.4 55.1 61.2 62.1 57.6 65.3 55.0
PolyFormer-B | specialist | 74.8 76.6 71.1 67.6 72.9 59.3 67.8 69.1 - - -
LISA-7B | generalist | 74.1 76.5 71.1 62.4 67.4 56.5 66.4 68.5 38.7 52.6 44.8
PixelLM-7B | generalist | 73.0 76.5 68.2 66.3 71.7 58.3 69.3 70.5 - - -
GSVA-7B | generalist | 76.4 77.4 72.8 64.5 67.7 58.6 71.1 72.0 61.7 69.2 60.3
LaSagnA-7B | generalist | 76.8 78.7 73.8 66.4 70.6 60.1 70.6 71.9 38.1 50.4 42.1
OMG-LLaVA | generalist | 78.0 80.3 74.1 69.1 73.1 63.0 72.9 72.9 - - -
PSALM | generalist | 83.6 84.7 81.6 72.9 75.5 70.1 73.8 74.4 42.0 52.4 50.6
MVP-LM | generalist | 83.6 85.1 82.5 73.9 76.8 65.4 75.1 75.6 37.6 50.4 49.9
"""
TABLE_5 = """
Shikra | 13B | 87.8 91.1 81.8 82.9 87.8 74.4 82.6 83.1
MiniGPTv2 | 7B | 88.7 91.7 85.3 80.0 85.1 74.5 84.4 84.7
Octopus | 7B | 89.0 92.6 83.4 83.5 89.4 76.0 84.4 86.2
MVP-LM | 1.3B | 93.5 94.5 91.6 84.9 88.8 79.3 86.7 87.4
DeepSeek-VL2 | 200B+ | 95.1 96.7 95.1 91.2 94.9 87.4 92.8 92.9
"""
_SPLITS = [('RefCOCO val', 'refcoco_val'), ('testA', 'refcoco_testA'), ('testB', 'refcoco_testB'),
           ('RefCOCO+ val', 'refcoco+_val'), ('testA', 'refcoco+_testA'),
           ('testB', 'refcoco+_testB'), ('RefCOCOg val', 'refcocog_val'),
           ('test', 'refcocog_test')]
_GREF = [('gRefCOCO val', 'grefcoco_val'), ('testA', 'grefcoco_testA'),
         ('testB', 'grefcoco_testB')]


@dataclass
class Table:
    """One table of the paper.

    Attributes:
        title: Its caption in short.
        header: Names of the two columns before the figures.
        columns: Heading of each figure and its key in ``metrics.json``.
        published: Rows as text: method | second column | figures.
        joined: Key of each figure under the protocol that joins a reference's sentences; empty
            where the table has one protocol.
        note: Line below the table.
    """

    title: str
    header: tuple[str, str]
    columns: list[tuple[str, str]]
    published: str
    joined: list[str]
    note: str = ''


TABLES = {
    3: Table(
        'Table 3. COCO panoptic and open-vocabulary segmentation', ('method', 'backbone'),
        [('COCO PQ', 'coco_panoptic/panoptic/PQ'), ('mIoU', 'coco_panoptic/semantic/mIoU'),
         ('ADE PQ', 'ade20k/panoptic/PQ'), ('mIoU', 'ade20k/semantic/mIoU'),
         ('Cityscapes PQ', 'cityscapes/panoptic/PQ'),
         ('PC-59 mIoU', 'pascal_context59/semantic/mIoU'),
         ('PAS-20 mIoU', 'pascal_voc20/semantic/mIoU')], TABLE_3, []),
    4: Table(
        'Table 4. Referring segmentation, cIoU', ('method', 'type'),
        [*((name, f'{key}/referring/cIoU') for name, key in _SPLITS),
         *((name, f'{key}/generalized/cIoU') for name, key in _GREF)], TABLE_4,
        [*(f'{key}_joined/referring/cIoU' for _, key in _SPLITS), '', '', ''],
        'The paper does not say whether its row asks each sentence by itself or the sentences of a '
        'reference joined.'),
    5: Table(
        'Table 5. Referring comprehension, accuracy at IoU 0.5', ('method', 'parameters'),
        [(name, f'{key}/referring/REC') for name, key in _SPLITS], TABLE_5,
        [f'{key}_joined/referring/REC' for _, key in _SPLITS]),
}


def read_metrics(folder: Path) -> dict[str, float]:
    """The metrics that tools/test.py left in a work folder.

    Raises:
        FileNotFoundError: If there are none.
        ValueError: If the file does not hold numbers by name.
    """
    path = folder / 'metrics.json' if folder.is_dir() else folder
    if not path.is_file():
        raise FileNotFoundError(f'{folder}: no metrics.json; tools/test.py writes it')
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except json.JSONDecodeError as error:
        raise ValueError(f'{path} is not JSON: {error}') from error
    if not isinstance(content, dict):
        raise ValueError(f'{path} must hold numbers by name, it holds a {type(content).__name__}')
    for key, value in content.items():
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f'{path}: {key} is {value!r}, not a finite number')
    return content


def merge(folders: list[Path]) -> dict[str, float]:
    """The metrics of several work folders as one model's.

    Raises:
        ValueError: If two of them disagree about a figure.
    """
    merged: dict[str, float] = {}
    source: dict[str, Path] = {}
    for folder in folders:
        for key, value in read_metrics(folder).items():
            if merged.setdefault(key, value) != value:
                raise ValueError(f'{source[key]} and {folder} disagree about {key} '
                                 f'({merged[key]} and {value}); --apart makes a row of each')
            source.setdefault(key, folder)
    return merged


def our_rows(table: Table, name: str, metrics: dict[str, float]) -> list[list[str]]:
    """A row of figures, and one of the joined protocol where any of it was measured."""
    def row(label: str, keys: list[str]) -> list[str]:
        return [label, '', *(f'{metrics[k]:.1f}' if k in metrics else '' for k in keys)]

    rows = [row(f'**{name}**', [key for _, key in table.columns])]
    if any(key in metrics for key in table.joined):
        rows.append(row(f'**{name}**, sentences joined', table.joined))
    return rows


def render(table: Table, measured: dict[str, dict[str, float]]) -> str:
    """A table in Markdown.

    Args:
        table: The table.
        measured: Metrics of each row of our own by its name.
    """
    heads = [*table.header, *(name for name, _ in table.columns)]
    rows = []
    for line in table.published.strip().splitlines():
        method, second, figures = (part.strip() for part in line.split('|'))
        rows.append([method, second, *figures.split()])
    for name, metrics in measured.items():
        rows += our_rows(table, name, metrics)
    ruler = ['---', '---', *['---:'] * len(table.columns)]
    lines = ['| ' + ' | '.join(row) + ' |' for row in (heads, ruler, *rows)]
    note = [table.note, ''] if table.note else []
    return '\n'.join([f'### {table.title}', '', *lines, '', *note])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('work_dirs', nargs='+', type=Path, metavar='WORK_DIR',
                        help='folder with a metrics.json of tools/test.py, or such a file')
    parser.add_argument('--apart', action='store_true',
                        help='a row for each folder, by default they are one model\'s')
    parser.add_argument('--name', default='ours', help='name of the row, default %(default)s')
    parser.add_argument('--tables', type=int, nargs='+', choices=sorted(TABLES),
                        default=sorted(TABLES))
    args = parser.parse_args()
    try:
        if args.apart:
            names = [folder.name for folder in args.work_dirs]
            if len(set(names)) < len(names):
                names = [str(folder) for folder in args.work_dirs]
            measured = {name: read_metrics(folder)
                        for name, folder in zip(names, args.work_dirs, strict=True)}
        else:
            measured = {args.name: merge(args.work_dirs)}
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f'paper_tables: error: {error}')
    print('\n'.join(render(TABLES[number], measured) for number in args.tables))
    for number in args.tables:
        keys = {*(key for _, key in TABLES[number].columns), *TABLES[number].joined}
        for name in [name for name, metrics in measured.items() if keys.isdisjoint(metrics)]:
            print(f'paper_tables: note: table {number} has no figure of {name!r}: none of its '
                  'benchmarks was tested', file=sys.stderr)


if __name__ == '__main__':
    main()
