# Copyright (c) mvp_mm authors. All rights reserved.
"""Where the model writes ``<PER>``, and what the written token starts from."""
from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from mvp_mm.evaluation import ResponseMetric
from mvp_mm.evaluation.base import NothingToMeasureError
from mvp_mm.tasks.prompts import RESULT
from tests.helpers import build_model, make_batch, make_samples

TASKS = ('PanopticTask', 'ReferringSegmentationTask')


@pytest.fixture(scope='module')
def model(tokenizer_path):
    built = build_model(tokenizer_path, max_response_tokens=12,
                        perception=dict(denoising=None)).eval()
    # A vocabulary of its own, so that no two rows write the same.
    torch.nn.init.normal_(built.llm.lm.lm_head.weight)
    return built


def ask(tokenizer_path):
    return [s for task in TASKS
            for s in make_samples(task, tokenizer_path, training=False)]


def predict(model, samples):
    data = model.data_preprocessor(make_batch([samples]), False)
    seen = []
    generate = model.llm.generate
    model.llm.generate = lambda *args: seen.append(generate(*args)) or seen[-1]
    try:
        return model.predict(**data), seen
    finally:
        del model.llm.generate


def test_a_cut_response_ends_as_responses_do_in_training(model, tokenizer_path):
    samples, (written, ) = predict(model, ask(tokenizer_path))
    trained, = make_samples('PanopticTask', tokenizer_path, response='none')
    ids = trained.instruction.input_ids[trained.instruction.prompt_length:].tolist()
    # Result, <PER>, end of text: the last is not written.
    assert model.ending == ids[:-1] and model.ending[-1] == model.per_id
    for sample, tokens, forced in zip(samples, written.tokens, written.forced, strict=True):
        tokens = [t for t in tokens.tolist() if t >= 0]
        assert len(tokens) <= 12 and tokens[-len(ids) + 1:] == ids[:-1]
        assert sample.pred_response_forced is bool(forced) is True
        assert RESULT not in sample.pred_caption


def test_without_thinking_nothing_is_cut(model, tokenizer_path, monkeypatch):
    monkeypatch.setattr(model, 'thinking', False)
    samples, written = predict(model, ask(tokenizer_path))
    assert not written
    assert [s.pred_response_forced for s in samples] == [False] * len(samples)


def test_the_share_of_cut_responses_is_measured(model, tokenizer_path):
    samples, _ = predict(model, ask(tokenizer_path))
    samples[0].pred_response_forced = False
    metric = ResponseMetric()
    metric.process(None, [sample.to_dict() for sample in samples])
    share = 100 * (len(samples) - 1) / len(samples)
    assert metric.evaluate(len(samples)) == {'response/forced': pytest.approx(share)}


def test_answers_without_responses_are_not_counted(model, tokenizer_path):
    samples, _ = predict(model, ask(tokenizer_path))
    others = [{k: v for k, v in sample.to_dict().items() if k != 'pred_response_forced'}
              for sample in samples[1:]]
    assert others
    metric = ResponseMetric()
    metric.process(None, [samples[0].to_dict(), *others])
    assert metric.evaluate(len(samples)) == {'response/forced': 100.0}
    with pytest.raises(NothingToMeasureError, match='no response was written'):
        metric.summarize([None])


def test_end_of_text_before_the_result_forces_it(model, tokenizer_path, monkeypatch):
    monkeypatch.setattr(model.llm, 'logits', lambda hidden: torch.nn.functional.one_hot(
        torch.full(hidden.shape[:-1], model.tokenizer.eos_id), 512).float())
    samples, (written, ) = predict(model, ask(tokenizer_path))
    assert written.tokens.tolist() == [model.ending] * len(samples)
    assert all(s.pred_response_forced for s in samples)


def test_a_limit_without_room_for_the_result_is_refused(tokenizer_path):
    model = build_model(tokenizer_path, max_response_tokens=3)
    with pytest.raises(ValueError, match='max_response_tokens=3 has no room for "The perception'):
        model.check_tokenizer()


def llm_folder(folder, vocabulary=512):
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(
        'phi', vocab_size=vocabulary, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=256)).save_pretrained(folder)
    return AutoModelForCausalLM.from_pretrained(folder)


def test_the_summary_token_of_a_pretrained_llm_starts_at_the_mean(tokenizer_path, tmp_path):
    plain = llm_folder(tmp_path)
    model = build_model(tokenizer_path, llm=dict(pretrained=str(tmp_path)))
    known = model.tokenizer.vocab_size
    others = [i for i in range(known) if i != model.per_id]
    for name in ('model.embed_tokens.weight', 'lm_head.weight', 'lm_head.bias'):
        before, after = plain.get_parameter(name), model.llm.lm.get_parameter(name)
        torch.testing.assert_close(after[model.per_id], before[others].mean(0))
        assert torch.equal(after[others], before[others])


@pytest.mark.parametrize('llm', [
    dict(), dict(frozen=True), dict(frozen=True, train_embeddings=True)])
def test_a_full_vocabulary_gets_a_row_for_the_summary_token(tokenizer_path, tmp_path, llm):
    known = build_model(tokenizer_path).tokenizer.vocab_size
    plain = llm_folder(tmp_path, known - 1)
    model = build_model(tokenizer_path, llm=dict(pretrained=str(tmp_path), **llm))
    assert model.per_id == known - 1 and model.llm.vocab_size == known
    trains = llm != dict(frozen=True)
    for name in ('model.embed_tokens.weight', 'lm_head.weight', 'lm_head.bias'):
        before, after = plain.get_parameter(name), model.llm.lm.get_parameter(name)
        assert torch.equal(after[:-1], before) and after.requires_grad == trains
        torch.testing.assert_close(after[-1], before.mean(0))


def test_a_vocabulary_that_lacks_several_tokens_is_refused(tokenizer_path, tmp_path):
    llm_folder(tmp_path, build_model(tokenizer_path).tokenizer.vocab_size - 2)
    with pytest.raises(ValueError, match='The tokenizer has .* tokens, the LLM embeds'):
        build_model(tokenizer_path, llm=dict(pretrained=str(tmp_path)))


def test_a_summary_token_that_the_folder_knows_is_kept(tokenizer_path, tmp_path, monkeypatch):
    plain = llm_folder(tmp_path)
    kind = type(build_model(tokenizer_path).tokenizer)
    monkeypatch.setattr(kind, 'per_is_new', False)
    model = build_model(tokenizer_path, llm=dict(pretrained=str(tmp_path)))
    assert torch.equal(model.llm.lm.lm_head.weight, plain.lm_head.weight)
