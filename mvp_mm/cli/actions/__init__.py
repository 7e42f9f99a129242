# Copyright (c) mvp_mm authors. All rights reserved.
"""What the commands do; imported when a command runs."""
