# Copyright (c) mvp_mm authors. All rights reserved.
"""The command ``mvp-mm``. Its modules import no library but click until a command runs."""
