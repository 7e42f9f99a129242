# Copyright (c) mvp_mm authors. All rights reserved.
"""Reading and writing of files, masks and images: one implementation of each for all packages."""
