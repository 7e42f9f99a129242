# Copyright (c) mvp_mm authors. All rights reserved.
