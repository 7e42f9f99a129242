# Copyright (c) mvp_mm authors. All rights reserved.
"""What is wrong with annotations, and how many of them may be."""
