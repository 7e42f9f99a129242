// Copyright (c) mvp_mm authors. All rights reserved.
#include "cpu_kernels.h"

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  define_deform_attn(m);
  define_segment_pairs(m);
  define_divide_pixels(m);
}
