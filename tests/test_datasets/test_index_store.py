# Copyright (c) mvp_mm authors. All rights reserved.
"""Where indices lie, when they are made anew, and who makes them."""
from __future__ import annotations

import multiprocessing
import os

import pytest

from mvp_mm.datasets.indexing import store
from tests.test_datasets.index_content import count_builds, open_on_disk, random_content, write


def test_the_second_open_reads_nothing_but_the_index(tmp_path, monkeypatch):
    path = write(tmp_path / 'ann.json', random_content())
    built = count_builds(monkeypatch)
    open_on_disk(path)
    open_on_disk(path)
    assert len(built) == 1


def test_another_source_is_indexed_anew(tmp_path):
    path = tmp_path / 'ann.json'
    write(path, random_content(images=5))
    assert len(open_on_disk(path)) == 5
    write(path, random_content(images=6))
    assert len(open_on_disk(path)) == 6


def test_a_source_of_the_same_size_but_newer_is_indexed_anew(tmp_path, monkeypatch):
    path = write(tmp_path / 'ann.json', random_content())
    open_on_disk(path)
    stat = os.stat(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    built = count_builds(monkeypatch)
    open_on_disk(path)
    assert len(built) == 1


@pytest.mark.parametrize('damage', ['short', 'no table', 'no meta', 'torn meta', 'other format'])
def test_a_damaged_index_is_made_anew(tmp_path, monkeypatch, damage):
    path = write(tmp_path / 'ann.json', random_content())
    wanted = open_on_disk(path).image(2)[1].tobytes()
    folder = store.index_folder(path, 'boxes')
    table, meta = folder / 'objects.bin', folder / 'meta.json'
    if damage == 'short':
        table.write_bytes(table.read_bytes()[:-1])
    elif damage == 'no table':
        table.unlink()
    elif damage == 'no meta':
        meta.unlink()
    elif damage == 'torn meta':
        meta.write_text(meta.read_text()[:20])
    else:
        monkeypatch.setattr(store, 'FORMAT', store.FORMAT + 1)
    built = count_builds(monkeypatch)
    assert open_on_disk(path).image(2)[1].tobytes() == wanted
    assert len(built) == 1


def test_a_failed_build_leaves_nothing_behind(tmp_path):
    content = random_content()
    content['annotations'][5]['category_id'] = 99
    path = write(tmp_path / 'ann.json', content)
    with pytest.raises(ValueError, match='annotation 5 names unknown category 99'):
        open_on_disk(path)
    assert {p.name for p in tmp_path.iterdir()} <= {'ann.json', 'ann.json.boxes.index.lock'}


def _open_and_report(path, queue):
    built = []
    make = store._make
    store._make = lambda *args: built.append(1) or make(*args)
    queue.put((len(built), len(open_on_disk(path)), len(built)))


def test_of_many_processes_one_builds(tmp_path):
    path = write(tmp_path / 'ann.json', random_content(boxes=2000))
    context = multiprocessing.get_context('fork')
    queue = context.Queue()
    processes = [context.Process(target=_open_and_report, args=(path, queue)) for _ in range(4)]
    for process in processes:
        process.start()
    results = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert [length for _, length, _ in results] == [40] * 4
    assert sum(built for _, _, built in results) == 1


def test_where_an_index_lies(tmp_path, monkeypatch):
    path = tmp_path / 'data' / 'ann.json'
    path.parent.mkdir()
    path.write_text('{}')
    monkeypatch.delenv(store.INDEX_DIR_VARIABLE, raising=False)
    assert store.index_folder(path, 'boxes').parent == path.parent.resolve()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setattr(store.os, 'access', lambda *args: False)
    assert store.index_folder(path, 'boxes').parent == tmp_path / 'cache' / 'mvp_mm'
    monkeypatch.setenv(store.INDEX_DIR_VARIABLE, str(tmp_path / 'chosen'))
    assert store.index_folder(path, 'boxes').parent == tmp_path / 'chosen'
    given = store.index_folder(path, 'boxes', tmp_path / 'given')
    assert given.parent == tmp_path / 'given'
    other = store.index_folder(tmp_path / 'ann.json', 'boxes', tmp_path / 'given')
    assert other != given


def test_what_a_killed_build_left_is_removed_by_the_next(tmp_path):
    path = write(tmp_path / 'ann.json', random_content())
    left = tmp_path / 'ann.json.boxes.index.part-a1b2c3d4'
    other = tmp_path / 'ann.json.other.index.part-a1b2c3d4'
    for folder in (left, other):
        folder.mkdir()
        (folder / 'objects.bin').write_bytes(b'half')
    assert len(open_on_disk(path)) == 40
    assert not left.exists() and other.exists()


def test_a_killed_build_leaves_a_folder_that_is_known_by_its_name(tmp_path):
    path = write(tmp_path / 'ann.json', random_content())
    process = multiprocessing.get_context('fork').Process(target=_open_and_die, args=(path,))
    process.start()
    process.join(60)
    assert process.exitcode == 9
    assert len(list(tmp_path.glob('*.part-*'))) == 1
    open_on_disk(path)
    assert not list(tmp_path.glob('*.part-*'))


def _open_and_die(path):
    store._signature = lambda *args, real=store._signature: (
        os._exit(9) if list(store.Path(path).parent.glob('*.part-*')) else real(*args))
    open_on_disk(path)
