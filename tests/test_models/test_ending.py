# Copyright (c) mvp_mm authors. All rights reserved.
"""How a written response ends: with the words that precede ``<PER>`` in training."""
from __future__ import annotations

import pytest
import torch

from mvp_mm.models.llms.ending import ForcedEnding
from mvp_mm.models.llms.running import GrowingText
from tests.test_models.llms import LENGTHS, make_prompts, small_llm

RESULT, EOS = [50, 51, 52, 53], 9


def write(free, limit, ending=RESULT, eos_id=EOS):
    """What becomes of a row that would write ``free``; whether its ending was forced."""
    ended = ForcedEnding([ending], torch.tensor([limit]), eos_id)
    tokens, done = [], torch.tensor([False])
    for step, token in enumerate([*free, *[1] * limit]):
        tokens.append(int(ended.next_token(step, torch.tensor([token]), done)))
        if tokens[-1] == ending[-1]:
            return tokens, bool(ended.forced)
    raise AssertionError('the row does not end')


@pytest.mark.parametrize(('free', 'written', 'forced'), [
    # It ends by itself.
    ([1, 2, 50, 51, 52, 53], [1, 2, 50, 51, 52, 53], False),
    # Cut at the limit of 8, with room for the whole ending.
    ([1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 50, 51, 52, 53], True),
    # Just in time: what it writes itself is what would be forced.
    ([1, 2, 3, 4, 50, 51, 52, 53], [1, 2, 3, 4, 50, 51, 52, 53], False),
    # In the middle of the ending when room runs out: not begun again.
    ([1, 2, 3, 50, 51, 6, 7], [1, 2, 3, 50, 51, 52, 53], True),
    # A false start is part of the text.
    ([50, 51, 3, 50, 51, 52, 53], [50, 51, 3, 50, 51, 52, 53], False),
    # End of text before its last token.
    ([1, EOS], [1, 50, 51, 52, 53], True), ([1, 50, 51, EOS], [1, 50, 51, 52, 53], True),
    ([EOS], [50, 51, 52, 53], True),
    # The last token without the others is the LLM's own choice.
    ([1, 53], [1, 53], False)])
def test_a_row_ends_with_its_whole_ending(free, written, forced):
    assert write(free, 8) == (written, forced)


def test_a_limit_of_the_ending_s_length_forces_all_of_it():
    assert write([1, 2], 4) == ([50, 51, 52, 53], True)


def test_end_of_text_ends_a_caption():
    assert write([1, EOS], 8, [EOS]) == ([1, EOS], False)
    assert write([1, 2, 3], 3, [EOS]) == ([1, 2, EOS], True)


def test_rows_of_a_batch_end_apart():
    prompts, llm = make_prompts(), small_llm()
    endings = [[50, 51, 52, 59], [EOS], [57, 58]]
    together = llm.generate(*prompts, endings, 7, EOS)
    for row, n in enumerate(LENGTHS):
        tokens = [t for t in together.tokens[row].tolist() if t >= 0]
        assert tokens[-len(endings[row]):] == endings[row] and len(tokens) <= 7
        single = llm.generate(prompts[0][row:row + 1, :n], prompts[1][row:row + 1, :n],
                              endings[row:row + 1], 7, EOS)
        assert single.tokens[0].tolist() == tokens
        assert single.forced[0] == together.forced[row]
        torch.testing.assert_close(single.summary[0], together.summary[row],
                                   atol=1e-5, rtol=1e-5)


def test_an_ending_without_room_is_refused():
    llm = small_llm()
    with pytest.raises(ValueError, match='up to 3 tokens has no room for its ending of 4'):
        llm.generate(*make_prompts(), [RESULT] * 3, 3)
    llm.max_length = max(LENGTHS) + 3
    with pytest.raises(ValueError, match='prompt of 9 tokens leaves no room for a response of 4'):
        llm.generate(*make_prompts(), [RESULT] * 3, 8)


def appended_rows(llm, monkeypatch, shrinks=True):
    """Write texts of different lengths; also give the rows that each further token was read in."""
    rows, append = [], GrowingText.append

    def counted(self, token, position, seen):
        rows.append(len(token))
        return append(self, token, position, seen)

    with monkeypatch.context() as patched:
        patched.setattr(GrowingText, 'append', counted)
        if not shrinks:
            patched.setattr(GrowingText, 'keep', lambda *_: False)
        # The limit of each row is what the LLM's context leaves behind its prompt.
        written = llm.generate(*make_prompts(), [[50, 51, 52, 59], [EOS], [57, 58]], 60, EOS)
    return written, rows


def test_rows_that_have_ended_leave_the_batch(monkeypatch):
    torch.manual_seed(0)
    written, rows = appended_rows(small_llm(), monkeypatch)
    tokens = (written.tokens >= 0).sum(1)
    assert len(set(tokens.tolist())) > 1
    assert rows == [(tokens > step).sum() for step in range(tokens.max())]
    assert sum(rows) == tokens.sum() < 3 * tokens.max()


def test_texts_do_not_depend_on_who_leaves(monkeypatch):
    torch.manual_seed(0)
    shrunk, rows = appended_rows(small_llm(), monkeypatch)
    torch.manual_seed(0)
    whole, all_rows = appended_rows(small_llm(), monkeypatch, shrinks=False)
    assert len(rows) == len(all_rows) and sum(rows) < sum(all_rows) == 3 * len(rows)
    assert shrunk.tokens.tolist() == whole.tokens.tolist()
    assert shrunk.forced.tolist() == whole.forced.tolist()
    torch.testing.assert_close(shrunk.summary, whole.summary, atol=1e-5, rtol=1e-5)
