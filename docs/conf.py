# Copyright (c) mvp_mm authors. All rights reserved.
"""Sphinx's settings: ``sphinx-build -W -b html docs work_dirs/docs``."""
from __future__ import annotations

from mvp_mm import __version__

project = 'mvp_mm'
author = 'mvp_mm authors'
copyright = 'mvp_mm authors'
release = version = __version__

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
myst_heading_anchors = 3
myst_links_external_new_tab = False
exclude_patterns = ['_build']
html_theme = 'furo'
html_title = f'mvp_mm {release}'

autodoc_member_order = 'bysource'
autodoc_typehints = 'signature'
autodoc_default_options = dict(members=True, show_inheritance=True)
napoleon_google_docstring = True
napoleon_numpy_docstring = False
