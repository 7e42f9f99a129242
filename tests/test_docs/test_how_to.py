# Copyright (c) mvp_mm authors. All rights reserved.
"""The how-to pages are followed to the letter: their files written, their commands typed."""
from __future__ import annotations

import pytest

from mvp_mm.engine import load_config
from tests.test_docs.running import (
    TINY,
    Follower,
    files_of,
    forget,
    make_place,
    save_checkpoint,
)


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    folder = make_place(tmp_path_factory.mktemp('docs_place'))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        save_checkpoint(folder, load_config(TINY))
    return folder


@pytest.fixture
def page(place, monkeypatch, capsys):
    yield Follower(place, monkeypatch, capsys)
    forget(place)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_dataset(page):
    page.follow('dataset.md')
    dataset = page.runners['csv_config.py'].test_dataloader.dataset
    asked = [sample.instruction.phrases for item in dataset for sample in item['data_samples']]
    assert asked == [['the small circle in the middle'], ['the cross on the left'],
                     ['the largest shape']]
    assert 0 <= page.metrics['csv_config.py']['mine/referring/REC'] <= 100


def test_encoder(page):
    page.follow('encoder.md')
    convnext = page.runners['convnext.py'].model.encoder
    assert type(convnext.backbone.model).__name__.startswith('FeatureListNet')
    vit = page.runners['vit.py'].model.encoder
    assert type(vit.neck).__name__ == 'SimpleFeaturePyramid'
    assert type(vit.backbone).__name__ == 'PlainViT'
    own = page.runners['my_backbone_config.py'].model.encoder
    assert type(own.backbone).__name__ == 'PlainConvBackbone'
    assert own.out_channels == [32, 64, 128, 256]


def test_llm(page):
    page.follow('llm.md')
    model = page.runners['other_llm.py'].model
    assert model.llm.lm.config.model_type == 'qwen2' and model.llm.hidden_size == 64
    assert page.runners['random_llama.py'].model.llm.lm.config.model_type == 'llama'


def test_query_generator(page):
    page.follow('query_generator.md')
    generator = page.runners['gated_config.py'].model.perception.query_generator
    assert generator.gate.shape == (96,) and generator.gate.any()    # it has trained
    assert type(page.runners['learnable.py'].model.perception.query_generator
                ).__name__ == 'LearnableQueryGenerator'


def test_metric(page):
    page.follow('metric.md')
    assert page.metrics['box_count_config.py']['objects365/boxes/MAE'] >= 0


def test_task(page):
    page.follow('task.md')
    assert page.metrics['presence_config.py']['mine/presence/accuracy'] > 80    # as it comes
    assert (page.place / 'predictions/presence/mine/presence/other.json').is_file()
    trained = page.runners['presence_config.py']
    assert trained.iter == 1 and trained.cfg.load_from == 'tiny'
    assert "'PresenceTask'" in str(trained.cfg.train_dataloader.dataset)


def test_own_data(page):
    page.follow('own_data.md')
    runner = page.runners['own_data.py']
    assert {'mine/coco/segm_AP50', 'mine/coco/bbox_AP50'} <= set(page.metrics['own_data.py'])
    assert runner.cfg.load_from == 'CHECKPOINT'
    assert (page.place / 'data/mine/sheet.png').is_file()
    assert page.runners['config.py'].cfg.canvas == (192, 192)


def test_out_of_memory(page):
    page.follow('out_of_memory.md')
    runner = page.runners['low_memory.py']
    llm = runner.model.llm
    trained = {name for name, p in llm.named_parameters() if p.requires_grad}
    assert any('lora_A' in name for name in trained)
    assert parameters(llm) > sum(p.numel() for p in llm.parameters() if p.requires_grad) > 0
    assert llm.lm.is_gradient_checkpointing
    assert runner.optim_wrapper._accumulative_counts == 8
    assert runner.optim_wrapper.dtype == 'bfloat16'


def test_multi_gpu(page):
    page.follow('multi_gpu.md')
    runner = page.runners['sharded.py']
    assert type(runner).__name__ == 'ShardedRunner'
    assert all(type(p).__name__ == 'DTensor' for p in runner.model.parameters())


def test_a_python_block_that_would_not_be_run_is_refused():
    with pytest.raises(ValueError, match='does not begin with "# file'):
        files_of('```python\nx = 1\n```\n')
    assert files_of('```python\n# file: a.py\nx = 1\n```\n') == {'a.py': '# file: a.py\nx = 1\n'}
