# Copyright (c) mvp_mm authors. All rights reserved.
"""From names and sentences to tokens, within the limits of the LLM."""
