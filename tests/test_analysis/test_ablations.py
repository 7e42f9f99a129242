# Copyright (c) mvp_mm authors. All rights reserved.
"""Ablation suites: from the recipe file to runs, from runs to tables."""
from __future__ import annotations

import json

import pytest
import yaml

from mvp_mm.analysis.ablation_tables import collect, insert_tables, table_blocks
from mvp_mm.analysis.ablations import Run, read_suite
from mvp_mm.analysis.result_blocks import fill_in
from mvp_mm.engine import check_config, load_config
from tests.helpers import ROOT

FILE = ROOT / 'configs/mvplm/ablations/synthetic.yml'
CAPTIONS = ROOT / 'configs/mvplm/ablations/wrong_captions.yml'
SMALL = dict(
    config='a.py', datasets=['refcoco'], columns={'REC': 'refcoco/referring/REC'},
    options={'x': 1, 'y': 1}, recipes=dict(base={}, other=dict(options={'y': 2})),
    tables=dict(one=dict(title='One', rows={'8': 'base', 'more': 'other'})))


def suite_of(folder, **changes):
    path = folder / 'recipes.yml'
    path.write_text(yaml.safe_dump({**SMALL, **changes}))
    return read_suite(path)


def run_of(suite, folder, name='base', seed=0, steps=20):
    return Run(suite.recipes[name], seed, steps, 5, suite.datasets,
               folder=folder / f'{name}_s{seed}')


def finish(run, value, images=5):
    run.start()
    run.weights.write_bytes(b'')
    run.result.write_text(json.dumps(dict(
        commit='c', changed=False, settings=dict(images=images),
        figures={'thinking': {'refcoco': {'referring/REC': value}}})))


def test_a_recipe_is_the_common_options_and_its_own(tmp_path):
    suite = suite_of(tmp_path)
    assert suite.recipes['base'].options == {'x': 1, 'y': 1}
    assert suite.recipes['other'].options == {'x': 1, 'y': 2}
    assert suite.choose(['other']) == [suite.recipes['other']]


@pytest.mark.parametrize('changes, message', [
    (dict(config=None), 'config is missing'),
    (dict(stepz=3), "unknown key 'stepz'"),
    (dict(recipes=dict(base=dict(option={}))), "recipe base: unknown key 'option'"),
    (dict(tables=dict(t=dict(title='', rows={'a': 'gone'}))), "table t names the recipe 'gone'"),
    (dict(columns={'PQ': 'panoptic/panoptic/PQ'}), 'of no dataset that is measured')])
def test_a_mistake_in_a_recipe_file_is_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        suite_of(tmp_path, **changes)
    assert 'recipes.yml' in str(caught.value)


def test_an_unknown_recipe_is_refused_with_those_that_are_known(tmp_path):
    with pytest.raises(ValueError, match="no recipe 'bas'; there are base, other"):
        suite_of(tmp_path).choose(['bas'])


def test_a_finished_run_has_nothing_left(tmp_path):
    run = run_of(suite_of(tmp_path), tmp_path)
    assert [command[1].rpartition('/')[2] for command in run.left()] == [
        'train.py', 'measure_model.py']
    finish(run, 1.0)
    assert run.left() == []


def test_a_trained_run_is_measured_again_where_other_images_are_asked(tmp_path):
    run = run_of(suite_of(tmp_path), tmp_path)
    finish(run, 1.0, images=4)
    (command, ) = run.left()
    assert command[1].endswith('measure_model.py') and run.measured() is None


def test_training_resumes_and_carries_recipe_seed_and_steps(tmp_path):
    command = run_of(suite_of(tmp_path), tmp_path, 'other', seed=3, steps=50).train_command()
    assert '--resume' in command
    assert {'y=2', 'randomness.seed=3', 'train_cfg.max_iters=50',
            'param_scheduler.1.end=50'} <= set(command)


def test_a_folder_of_other_settings_is_refused(tmp_path):
    suite = suite_of(tmp_path)
    run_of(suite, tmp_path).start()
    with pytest.raises(ValueError, match='base_s0 was started with steps=20, not 21'):
        run_of(suite, tmp_path, steps=21).left()


def test_runs_of_other_settings_are_not_averaged_with_these(tmp_path):
    suite = suite_of(tmp_path)
    finish(run_of(suite, tmp_path), 1.0)
    with pytest.raises(ValueError, match='was started with steps=20, not 21'):
        collect(suite, [run_of(suite, tmp_path, steps=21)])


def test_seeds_are_averaged_with_the_deviation_of_a_sample(tmp_path):
    suite = suite_of(tmp_path)
    runs = [run_of(suite, tmp_path, seed=seed) for seed in (0, 1, 2)]
    for run, value in zip(runs[:2], (1.0, 3.0), strict=True):
        finish(run, value)
    figures, results = collect(suite, runs)
    metric = 'refcoco/referring/REC'
    assert figures == dict(base=dict(
        seeds=[0, 1], mean={metric: 2.0}, deviation={metric: 1.4142})) and len(results) == 2


def test_a_table_says_what_was_not_measured_and_shows_no_deviation_of_one_seed(tmp_path):
    suite = suite_of(tmp_path)
    runs = [run_of(suite, tmp_path, seed=seed) for seed in (0, 1)]
    finish(runs[0], 50.0)
    assert '50.0 |' in page(suite, runs, tmp_path)
    finish(runs[1], 60.0)
    found = page(suite, runs, tmp_path)
    assert '| 8 | 55.0 ± 7.1 | 0, 1 |' in found and '| more | not measured |  |' in found
    assert '±' not in page(suite, runs[:1], tmp_path)


def page(suite, runs, folder):
    figures, _ = collect(suite, runs)
    (folder / 'r.json').write_text(json.dumps(dict(figures=figures)))
    text = insert_tables('a\n<!-- ablations -->\nold\n<!-- end ablations -->\nb\n',
                         table_blocks(suite, figures, 'r.json'))
    assert text.startswith('a\n') and text.endswith('b\n') and 'old' not in text
    return fill_in(text, folder)


def test_a_page_without_a_place_for_tables_is_refused():
    with pytest.raises(ValueError, match='no place for the tables'):
        insert_tables('nothing', '')


@pytest.mark.parametrize('file, name', [
    (file, name) for file in (FILE, CAPTIONS) for name in read_suite(file).recipes])
def test_every_shipped_recipe_is_a_config_that_passes_the_check(file, name, tmp_path):
    recipe = read_suite(file).recipes[name]
    cfg = load_config(ROOT / recipe.config, {
        **recipe.options, 'model.tokenizer.path': str(tmp_path)})
    cfg.model.encoder.backbone.pop('pretrained_path')    # written by a command
    check_config(cfg, modes=())
    assert set(read_suite(file).datasets) <= set(cfg.test_dataloader)


def test_recipes_of_wrong_captions_differ_by_the_captions_alone():
    suite = read_suite(CAPTIONS)
    stores = set()
    for recipe in suite.recipes.values():
        own = {key: value for key, value in recipe.options.items() if 'caption_store' in key}
        assert len(own) == 3 and len(set(own.values())) == 1
        stores |= set(own.values())
    assert len(stores) == len(suite.recipes)
    assert set(suite.tables['captions']['rows'].values()) == set(suite.recipes)


def test_the_shipped_recipes_cover_four_tables_around_one_base():
    suite = read_suite(FILE)
    used = [set(table['rows'].values()) for table in suite.tables.values()]
    assert len(used) == 4 and all('base' in rows for rows in used)
    assert set.union(*used) == set(suite.recipes)


@pytest.mark.parametrize('plugin', ['box_supervision', 'query_initialisation'])
def test_a_plugin_shares_recipes_with_the_tables_of_the_paper(plugin):
    # Its README names the same work dir: other settings under the same name would be refused.
    paper, own = read_suite(FILE).recipes, read_suite(
        ROOT / 'projects' / plugin / 'recipes.yml').recipes
    shared = paper.keys() & own.keys()
    assert len(shared) == 2
    assert all(paper[name] == own[name] for name in shared)
