// Copyright (c) mvp_mm authors. All rights reserved.
// What each source adds to the compiled module.
#pragma once
#include <pybind11/pybind11.h>

void define_deform_attn(pybind11::module_& m);
void define_segment_pairs(pybind11::module_& m);
void define_divide_pixels(pybind11::module_& m);
