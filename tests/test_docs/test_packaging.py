# Copyright (c) mvp_mm authors. All rights reserved.
"""The wheel is complete: it works from another folder, without the checkout."""
from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from mmengine.config import Config
from packaging.requirements import Requirement
from packaging.version import Version

from mvp_mm.ops import cpu_kernel
from mvp_mm.utils.shipped import find_shipped, shipped_root
from tests.helpers import ROOT
from tests.test_own_data.label_files import write_yolo

try:
    import tomllib
except ModuleNotFoundError:    # Python 3.10
    from setuptools.compat.py310 import tomllib

SOURCES = ('mvp_mm', 'configs', 'tools', 'demo', 'pyproject.toml', 'setup.py', 'MANIFEST.in',
           'README.md', 'LICENSE')

# Runs elsewhere with the wheel alone: a shipped config by name, the model, the sources of the
# kernels and an answer. mmcv lacks its operators, as pip installs it where nothing is compiled.
PROBE = """
import json
import sys
sys.modules['mmcv._ext'] = None
from pathlib import Path
import numpy as np
import torch
import mvp_mm
from mvp_mm.apis import PerceptionInferencer
from mvp_mm.ops import cpu_kernel
from mvp_mm.registry import MODELS
from mvp_mm.engine import load_config
from mvp_mm.utils.shipped import find_shipped
config = load_config('configs/mvplm/tiny/stage2.py', {'model.tokenizer.path': 'tokenizer'})
model = MODELS.build(config.model)
Path('own.py').write_text('''
_base_ = '{{$MVP_MM_CONFIGS:configs}}/mvplm/tiny/stage2.py'
canvas = (64, 64)
''')
own = load_config('own.py')
torch.save(dict(state_dict=model.state_dict(), meta={}), 'tiny.pth')
answer, = PerceptionInferencer(config, 'tiny.pth', 'cpu')(
    np.zeros((48, 64, 3), np.uint8), 'instance', words=['cat'], thinking=False)
operators = [name for name in sys.modules if name.startswith('mmcv.ops.')]
from mvp_mm.cli.command import run
from mvp_mm.cli.main import cli
statuses = [run(cli, 'mvp-mm', words) for words in (
    ['data', 'labels', '--out', 'mine'], ['check', 'mine/config.py'])]
print(json.dumps(dict(
    package=mvp_mm.__file__, config=config.filename, own=[own.canvas[0], own.model.embed_dims],
    kernel=cpu_kernel._build_folder().name, answered=answer['size'], operators=operators,
    statuses=statuses, labelled=load_config('mine/config.py').canvas[0],
    parameters=sum(p.numel() for p in model.parameters()),
    train=str(find_shipped('tools/train.py')))))
"""


def read_project():
    return tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))['project']


def read_pins(*names):
    """Requirements of requirements/*.txt by package, those of other Pythons included."""
    pins = {}
    for name in names:
        for line in (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines():
            if line and not line.startswith('#'):
                requirement = Requirement(line)
                pins.setdefault(requirement.name, []).append(requirement)
    return pins


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    source = tmp_path_factory.mktemp('source')
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name,
                            ignore=shutil.ignore_patterns('__pycache__', '_build', '.mim'))
        else:
            shutil.copy(ROOT / name, source / name)
    subprocess.run(
        [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-build-isolation',
         '--no-index', '--wheel-dir', source / 'out', source], check=True)
    found, = (source / 'out').glob('mvp_mm-*.whl')
    return found


@pytest.fixture(scope='module')
def elsewhere(wheel, tmp_path_factory):
    """What the probe says in a folder of its own, with the installed wheel."""
    place = tmp_path_factory.mktemp('elsewhere')
    subprocess.run([sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--no-index',
                    '--target', place / 'site', wheel], check=True)
    from tests.helpers import save_tokenizer
    (place / 'work').mkdir()
    save_tokenizer(place / 'work/tokenizer')
    write_yolo(place / 'work/labels')
    done = subprocess.run(
        [sys.executable, '-c', PROBE], cwd=place / 'work', text=True, capture_output=True,
        env=dict(os.environ, PYTHONPATH=str(place / 'site')))
    assert done.returncode == 0, done.stderr[-2000:]
    return place, json.loads(done.stdout.splitlines()[-1])


def test_an_installed_wheel_runs_its_own_files(elsewhere):
    place, said = elsewhere
    site = str(place / 'site/mvp_mm')
    assert said['package'] == f'{site}/__init__.py'
    assert said['config'] == f'{site}/.mim/configs/mvplm/tiny/stage2.py'
    assert said['train'] == f'{site}/.mim/tools/train.py'


def test_a_config_of_ones_own_inherits_a_shipped_one(elsewhere):
    assert elsewhere[1]['own'] == [64, 96]


def test_an_installed_wheel_has_the_command(elsewhere, wheel):
    assert elsewhere[1]['statuses'] == [0, 0] and elsewhere[1]['labelled'] == 192
    entries, = (name for name in zipfile.ZipFile(wheel).namelist()
                if name.endswith('entry_points.txt'))
    assert 'mvp-mm = mvp_mm.cli.main:main' in zipfile.ZipFile(wheel).read(entries).decode()


def test_an_installed_wheel_builds_the_tiny_model(elsewhere):
    assert elsewhere[1]['parameters'] > 1e6


def test_an_installed_wheel_answers_without_mmcv_s_operators(elsewhere):
    assert elsewhere[1]['answered'] == [48, 64] and elsewhere[1]['operators'] == []


def test_an_installed_wheel_has_the_sources_of_the_kernels(elsewhere):
    place, said = elsewhere
    shipped = place / 'site/mvp_mm/ops/csrc'
    own = ROOT / 'mvp_mm/ops/csrc'
    assert {f.name: f.read_bytes() for f in shipped.iterdir()} == {
        f.name: f.read_bytes() for f in own.iterdir()}
    # Its name is a digest of the sources, so a kernel built there is the one built here.
    assert said['kernel'] == cpu_kernel._build_folder().name


def test_the_wheel_holds_every_config_and_tool(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ('configs', 'tools', 'demo'):
        for path in (ROOT / folder).rglob('*.py'):
            assert f'mvp_mm/.mim/{path.relative_to(ROOT)}' in names
    assert not [name for name in names if '__pycache__' in name or '/_build/' in name]


def test_every_config_of_a_checkout_is_found_by_name_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shipped_root() == ROOT
    assert Config.fromfile(find_shipped('configs/mvplm/tiny/stage2.py')).model.type == 'MVPLM'


def test_a_file_of_the_working_folder_goes_before_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / 'configs/mvplm/stage2.py'
    own.parent.mkdir(parents=True)
    own.write_text('a = 1')
    assert find_shipped('configs/mvplm/stage2.py').resolve() == own


@pytest.mark.parametrize('name', ['configs/none.py', '../pyproject.toml', '/none.py', 'configs'])
def test_a_name_that_is_no_shipped_file_is_an_error_with_both_places(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as error:
        find_shipped(name)
    assert str(tmp_path) in str(error.value) and str(ROOT) in str(error.value)


def test_every_dependency_is_a_range_that_holds_its_pins():
    pins = read_pins('torch', 'mmcv', 'runtime', 'tensorboard', 'serve', 'onnx', 'scale',
                     'pretrained', 'tests', 'docs')
    project = read_project()
    ranges = [Requirement(line) for line in project['dependencies']]
    ranges += [Requirement(line) for extra in project['optional-dependencies'].values()
               for line in extra]
    for wanted in ranges:
        for pin in pins[wanted.name]:
            version, = (Version(spec.version) for spec in pin.specifier)
            assert version in wanted.specifier, f'{pin} is not in {wanted}'
        assert not [spec for spec in wanted.specifier if spec.operator in ('==', '===')]


def test_every_pin_of_the_runtime_is_a_dependency():
    named = {Requirement(line).name for line in read_project()['dependencies']}
    # The second OpenCV is a dependency of imaug's, pinned to the version of the first.
    assert set(read_pins('torch', 'mmcv', 'runtime')) - named == {'opencv-python-headless'}


def test_both_opencv_distributions_have_one_version():
    pins = read_pins('runtime')
    assert pins['opencv-python'][0].specifier == pins['opencv-python-headless'][0].specifier


@pytest.mark.parametrize('python', ['3.10', '3.11', '3.12'])
def test_every_supported_python_has_exactly_one_pin_of_each_package(python):
    for name, pins in read_pins(
            'torch', 'mmcv', 'runtime', 'serve', 'onnx', 'scale', 'tests', 'docs',
            'build').items():
        meant = [pin for pin in pins if pin.marker is None
                 or pin.marker.evaluate(dict(python_version=python))]
        assert len(meant) == 1, f'{name} on {python}: {meant}'


def test_the_changelog_tells_of_the_version():
    from mvp_mm.version import __version__
    text = (ROOT / 'CHANGELOG.md').read_text(encoding='utf-8')
    assert '## [Unreleased]' in text and f'## [{__version__}]' in text
