# Copyright (c) mvp_mm authors. All rights reserved.
"""Two processes score, and save, the same as one."""
from __future__ import annotations

import json
import traceback
from multiprocessing import get_context

import pytest
import torch
from torch import distributed

from mvp_mm.evaluation import LvisAPMetric, PredictionWriter
from mvp_mm.evaluation.prediction_files import PartFiles, merge_parts

from . import test_lvis
from .test_saved_predictions import ASKED, META, METRICS, annotations, answer, make_question

COUNT = 7


def make_samples(kind):
    if kind == 'lvis':
        return test_lvis.make_world(0, images=COUNT)[1]
    samples = [make_question(kind, number) for number in range(COUNT)]
    for number, sample in enumerate(samples):
        answer(kind, sample, number)
    return samples


def make_metrics(kind, folder, ann_file):
    if kind == 'lvis':
        metrics = [LvisAPMetric(str(folder / 'lvis.json'), collect_dir=str(folder / 'lvis'))]
    else:
        metrics = [metric(collect_dir=str(folder / f'{kind}_{metric.__name__}'))
                   for metric in METRICS[kind]]
        metrics.append(PredictionWriter(str(folder / 'out' / kind), ann_file))
    for metric in metrics:
        metric.dataset_meta = META
    return metrics


def run(folder, ann_file, rank=0, world=1):
    """Score one rank's share of every kind of sample; batches hold up to two images."""
    scores = {}
    for kind in (*ASKED, 'lvis'):
        mine = make_samples(kind)[rank::world]
        for metric in make_metrics(kind, folder, ann_file):
            for start in range(0, len(mine), 2):
                batch = mine[start:start + 2]
                metric.process(dict(data_samples=[[sample] for sample in batch]), [
                    dict(sample.to_dict(), image_index=k) for k, sample in enumerate(batch)])
            scores.update(metric.evaluate(COUNT))
    return scores


def worker(folder, ann_file, rank, world):
    try:
        torch.set_num_threads(1)
        distributed.init_process_group(
            'gloo', init_method=f'file://{folder}/meeting', rank=rank, world_size=world)
        scores = run(folder, ann_file, rank, world)
        distributed.destroy_process_group()
        (folder / f'scores{rank}.json').write_text(json.dumps(scores))
    except BaseException:
        (folder / f'error{rank}.txt').write_text(traceback.format_exc())
        raise


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Folders of a run with one process and of one with two."""
    one, two = tmp_path_factory.mktemp('one'), tmp_path_factory.mktemp('two')
    ann_file = annotations(one)
    for folder in (one, two):
        (folder / 'lvis.json').write_text(json.dumps(test_lvis.make_world(0, images=COUNT)[0]))
    (one / 'scores0.json').write_text(json.dumps(run(one, ann_file)))
    context = get_context('fork')
    processes = [context.Process(target=worker, args=(two, ann_file, rank, 2)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    errors = [path.read_text() for path in two.glob('error*.txt')]
    assert not errors, errors[0]
    return one, two


def test_all_processes_have_the_scores_of_one(folders):
    one, two = folders
    expected = json.loads((one / 'scores0.json').read_text())
    assert {name.split('/')[0] for name in expected} == {
        'panoptic', 'semantic', 'coco', 'referring', 'generalized', 'grounding', 'lvis'}
    for rank in (0, 1):
        found = json.loads((two / f'scores{rank}.json').read_text())
        assert found == pytest.approx(expected, rel=0, abs=1e-9)


@pytest.mark.parametrize('kind', list(ASKED))
def test_all_predictions_are_saved_once(folders, kind):
    one, two = (folder / 'out' / kind for folder in folders)
    names = sorted(path.relative_to(one) for path in one.rglob('*.*'))
    assert names == sorted(path.relative_to(two) for path in two.rglob('*.*'))
    for name in names:
        first, second = ((folder / name).read_bytes() for folder in (one, two))
        if name.suffix == '.json':
            first, second = (sorted_records(json.loads(text)) for text in (first, second))
        assert first == second, name


def test_a_sample_that_two_processes_predict_is_named(tmp_path):
    for rank in (0, 1):
        files = PartFiles(tmp_path, rank)
        files.write('any', 'keys', dict(image_id=5, part=0))
        files.close()
    with pytest.raises(ValueError, match='"image_id": 5.* was predicted by two processes'):
        merge_parts(tmp_path, 2, [])


def test_a_process_that_writes_elsewhere_is_named(tmp_path):
    PartFiles(tmp_path, 0).close()
    with pytest.raises(FileNotFoundError, match='process 1 must write to a folder that all'):
        merge_parts(tmp_path, 2, [])


def test_records_that_got_lost_are_noticed(tmp_path):
    files = PartFiles(tmp_path, 0)
    for number in range(3):
        files.write('any', 'captions', dict(image_id=number))
    files.close()
    part = next(tmp_path.rglob('captions.0.jsonl'))
    part.write_text('\n'.join(part.read_text().splitlines()[:2]))
    with pytest.raises(ValueError, match='captions.0.jsonl has 2 of 3 records'):
        merge_parts(tmp_path, 1, [])


def sorted_records(content):
    lists = content if isinstance(content, dict) else {'': content}
    return {key: sorted(json.dumps(record) for record in records)
            for key, records in lists.items()}
