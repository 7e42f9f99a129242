# Copyright (c) mvp_mm authors. All rights reserved.
"""The page in a real browser."""
from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip('gradio', reason="the page needs 'mvp_mm[serve]'")
BROWSERS = ('chromium-headless-shell', 'chromium', 'chromium-browser', 'google-chrome')


@pytest.fixture(scope='module')
def browser():
    playwright = pytest.importorskip('playwright.sync_api', reason='playwright is not installed')
    found = [path for name in BROWSERS if (path := shutil.which(name))]
    if not found:
        pytest.skip(f'no browser is installed; looked for {", ".join(BROWSERS)}')
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found[0], args=['--no-sandbox'])
        yield started
        started.close()


@pytest.fixture
def page(page_server, browser):
    """The page, loaded; afterwards nothing may have been asked of another host."""
    address = page_server[0]
    shown = browser.new_page(viewport=dict(width=1360, height=1000))
    elsewhere, faults = [], []
    shown.on('request', lambda r: r.url.startswith((address, 'data:', 'blob:'))
             or elsewhere.append(r.url))
    shown.on('pageerror', lambda error: faults.append(str(error)))
    shown.goto(address)
    shown.wait_for_selector('#ask')
    yield shown
    shown.close()
    assert not elsewhere and not faults


def put(page, photograph, **texts):
    """Choose a picture, fill in fields and press the button."""
    page.set_input_files('#picture input[type=file]', str(photograph))
    page.wait_for_selector('#picture img')
    for name, value in texts.items():
        page.locator(f'#{name} textarea, #{name} input').first.fill(value)
    page.click('#ask')


def test_a_browser_shows_masks_with_tags_on_hover(page, photograph):
    put(page, photograph, words='cat, dog')
    page.wait_for_selector('#answer .shape')
    page.mouse.move(5, 5)
    assert page.locator('#answer .chip').all_inner_texts() == ['dog 0.90', 'cat 0.50']
    opacities = "tags => tags.map(tag => getComputedStyle(tag).opacity)"
    assert page.eval_on_selector_all('#answer .tag', opacities) == ['0', '0']
    # The upper one of the two masks, which overlap but for their left edges.
    page.locator('#answer .shape path').last.hover()
    assert sorted(page.eval_on_selector_all('#answer .tag', opacities)) == ['0', '1']
    assert '400 x 300 pixels' in page.inner_text('#facts')
    assert page.locator('#caption textarea').input_value().startswith('400x300')


def test_a_browser_downloads_the_picture_and_the_record(page, photograph):
    put(page, photograph, text='the cat on the left')
    page.wait_for_selector('#answer .shape')
    with page.expect_download() as download:
        page.click('#png')
    with Image.open(download.value.path()) as image:
        assert image.size == (400, 300)
    with page.expect_download() as download:
        page.click('#json')
    record = json.loads(Path(download.value.path()).read_text())
    assert record['objects'][0]['label'] == 'the cat on the left'
    assert record['image_size'] == [300, 400]


def test_names_that_look_like_code_are_shown_not_run(page, photograph):
    name = '<img src=x onerror="window.broken = 1">'
    put(page, photograph, words=name)
    page.wait_for_selector('#answer .shape')
    assert page.locator('#answer .chip').first.inner_text() == f'{name} 0.50'
    assert page.evaluate('window.broken') is None


def test_a_browser_asks_about_an_example(page):
    page.locator('table tbody tr').first.click()
    page.wait_for_selector('#picture img')
    page.wait_for_function(
        "document.querySelector('#words textarea, #words input').value.includes('circle')")
    page.click('#ask')
    page.wait_for_selector('#answer .shape')
    assert 'circle 0.50' in page.locator('#answer .chip').all_inner_texts()


def test_a_fault_of_the_user_becomes_a_notice(page, photograph):
    put(page, photograph, words='cat', text='the cat')
    page.wait_for_selector('.toast-body')
    assert 'either words or text' in page.inner_text('.toast-body')
