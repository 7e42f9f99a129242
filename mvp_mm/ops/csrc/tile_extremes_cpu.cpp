// Copyright (c) mvp_mm authors. All rights reserved.
// Highest and lowest value of every 8 x 8 tile of some maps.
//
// Every map is read once, row by row, in loops that the compiler turns into vector instructions. A
// tile with a NaN has NaN for both.
#include <torch/extension.h>
#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "cpu_kernels.h"

namespace {

constexpr int64_t kTile = 8;

inline float higher(float a, float b) { return (b > a) | (b != b) ? b : a; }
inline float lower(float a, float b) { return (b < a) | (b != b) ? b : a; }

// Extremes of `rows` rows of a map, column by column, then of groups of eight columns.
void extremes_of_rows(const float* map, int64_t rows, int64_t width, float* high_columns,
                      float* low_columns, float* high, float* low) {
  std::copy(map, map + width, high_columns);
  std::copy(map, map + width, low_columns);
  for (int64_t y = 1; y < rows; ++y) {
    const float* row = map + y * width;
    for (int64_t x = 0; x < width; ++x) {
      high_columns[x] = higher(high_columns[x], row[x]);
      low_columns[x] = lower(low_columns[x], row[x]);
    }
  }
  for (int64_t left = 0; left < width; left += kTile) {
    float most = high_columns[left], least = low_columns[left];
    for (int64_t x = left + 1; x < std::min(left + kTile, width); ++x) {
      most = higher(most, high_columns[x]);
      least = lower(least, low_columns[x]);
    }
    *high++ = most;
    *low++ = least;
  }
}

// (m, h, w) float32 maps and (n,) rows of them: twice (n, ceil(h / 8), ceil(w / 8)).
std::pair<torch::Tensor, torch::Tensor> tile_extremes(const torch::Tensor& maps,
                                                      const torch::Tensor& rows) {
  TORCH_CHECK(maps.dim() == 3 && maps.is_contiguous() && maps.scalar_type() == torch::kFloat,
              "tile_extremes needs contiguous float32 maps (m, h, w)");
  TORCH_CHECK(rows.dim() == 1 && rows.is_contiguous() && rows.scalar_type() == torch::kLong,
              "tile_extremes needs rows (n,) int64");
  const int64_t count = rows.size(0), height = maps.size(1), width = maps.size(2);
  const int64_t down = (height + kTile - 1) / kTile, across = (width + kTile - 1) / kTile;
  torch::Tensor highest = maps.new_empty({count, down, across});
  torch::Tensor lowest = maps.new_empty({count, down, across});
  const int64_t* row = rows.data_ptr<int64_t>();
  for (int64_t k = 0; k < count; ++k) {
    TORCH_CHECK_INDEX(row[k] >= 0 && row[k] < maps.size(0), "no map ", row[k]);
  }
  if (!highest.numel()) return {highest, lowest};
  const float* values = maps.data_ptr<float>();
  float *high = highest.data_ptr<float>(), *low = lowest.data_ptr<float>();
  at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> columns(2 * width);
    for (int64_t k = begin; k < end; ++k) {
      for (int64_t tile = 0; tile < down; ++tile) {
        const int64_t top = tile * kTile, at = (k * down + tile) * across;
        extremes_of_rows(values + (row[k] * height + top) * width,
                         std::min(kTile, height - top), width, columns.data(),
                         columns.data() + width, high + at, low + at);
      }
    }
  });
  return {highest, lowest};
}

}  // namespace

void define_tile_extremes(pybind11::module_& m) {
  m.def("tile_extremes", &tile_extremes, pybind11::call_guard<pybind11::gil_scoped_release>());
}
