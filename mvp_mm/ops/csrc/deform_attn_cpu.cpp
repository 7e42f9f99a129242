// Copyright (c) mvp_mm authors. All rights reserved.
// Multi-scale deformable attention on the CPU, float32.
//
// value (B, S, H, D), shapes (L, 2), starts (L), locations (B, Q, H, L, P, 2) as xy in [0, 1],
// weights (B, Q, H, L, P); the result is (B, Q, H, D). Positions follow grid_sample with
// align_corners=False and zeros outside. Work is split over batch x heads, so that the gradient
// of value is written by one thread only.
#include <torch/extension.h>
#include <ATen/Parallel.h>
#include <cmath>
#include <vector>

#include "cpu_kernels.h"

namespace {

struct Sizes {
  int64_t batch, tokens, heads, dims, queries, levels, points;
};

Sizes read_sizes(const at::Tensor& value, const at::Tensor& locations) {
  return {value.size(0), value.size(1), value.size(2), value.size(3),
          locations.size(1), locations.size(3), locations.size(4)};
}

// The four cells around a point: offsets into the level (-1 outside) and bilinear shares.
struct Corners {
  int64_t row[4];
  float share[4];
  float fx, fy;
};

inline Corners corners_of(float x, float y, int64_t width, int64_t height) {
  const float px = x * width - 0.5f, py = y * height - 0.5f;
  const float bx = std::floor(px), by = std::floor(py);
  const int64_t x0 = static_cast<int64_t>(bx), y0 = static_cast<int64_t>(by);
  Corners c;
  c.fx = px - bx;
  c.fy = py - by;
  for (int k = 0; k < 4; ++k) {
    const int64_t cx = x0 + (k & 1), cy = y0 + (k >> 1);
    const bool inside = cx >= 0 && cx < width && cy >= 0 && cy < height;
    c.row[k] = inside ? cy * width + cx : -1;
    c.share[k] = ((k & 1) ? c.fx : 1 - c.fx) * ((k >> 1) ? c.fy : 1 - c.fy);
  }
  return c;
}

// Locations far outside (or not finite) touch nothing; checked before the cast to integers.
inline bool reachable(float x, float y) {
  return x > -1.0f && x < 2.0f && y > -1.0f && y < 2.0f;
}

at::Tensor forward(const at::Tensor& value, const at::Tensor& shapes, const at::Tensor& starts,
                   const at::Tensor& locations, const at::Tensor& weights) {
  const Sizes n = read_sizes(value, locations);
  auto out = at::zeros({n.batch, n.queries, n.heads, n.dims}, value.options());
  const float* v = value.data_ptr<float>();
  const float* loc = locations.data_ptr<float>();
  const float* w = weights.data_ptr<float>();
  const int64_t* shape = shapes.data_ptr<int64_t>();
  const int64_t* start = starts.data_ptr<int64_t>();
  float* o = out.data_ptr<float>();
  const int64_t stride = n.heads * n.dims;
  at::parallel_for(0, n.batch * n.heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t job = begin; job < end; ++job) {
      const int64_t b = job / n.heads, h = job % n.heads;
      const float* head = v + (b * n.tokens * n.heads + h) * n.dims;
      for (int64_t q = 0; q < n.queries; ++q) {
        const int64_t at_query = (b * n.queries + q) * n.heads + h;
        float* result = o + at_query * n.dims;
        for (int64_t l = 0; l < n.levels; ++l) {
          const float* level = head + start[l] * stride;
          for (int64_t p = 0; p < n.points; ++p) {
            const int64_t i = (at_query * n.levels + l) * n.points + p;
            if (!reachable(loc[2 * i], loc[2 * i + 1])) continue;
            const Corners c =
                corners_of(loc[2 * i], loc[2 * i + 1], shape[2 * l + 1], shape[2 * l]);
            for (int k = 0; k < 4; ++k) {
              if (c.row[k] < 0) continue;
              const float* cell = level + c.row[k] * stride;
              const float factor = w[i] * c.share[k];
              for (int64_t d = 0; d < n.dims; ++d) result[d] += factor * cell[d];
            }
          }
        }
      }
    }
  });
  return out;
}

std::vector<at::Tensor> backward(const at::Tensor& grad, const at::Tensor& value,
                                 const at::Tensor& shapes, const at::Tensor& starts,
                                 const at::Tensor& locations, const at::Tensor& weights) {
  const Sizes n = read_sizes(value, locations);
  auto grad_value = at::zeros_like(value);
  auto grad_locations = at::zeros_like(locations);
  auto grad_weights = at::zeros_like(weights);
  const float* g = grad.data_ptr<float>();
  const float* v = value.data_ptr<float>();
  const float* loc = locations.data_ptr<float>();
  const float* w = weights.data_ptr<float>();
  const int64_t* shape = shapes.data_ptr<int64_t>();
  const int64_t* start = starts.data_ptr<int64_t>();
  float* gv = grad_value.data_ptr<float>();
  float* gl = grad_locations.data_ptr<float>();
  float* gw = grad_weights.data_ptr<float>();
  const int64_t stride = n.heads * n.dims;
  at::parallel_for(0, n.batch * n.heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t job = begin; job < end; ++job) {
      const int64_t b = job / n.heads, h = job % n.heads;
      const int64_t base = (b * n.tokens * n.heads + h) * n.dims;
      for (int64_t q = 0; q < n.queries; ++q) {
        const int64_t at_query = (b * n.queries + q) * n.heads + h;
        const float* up = g + at_query * n.dims;
        for (int64_t l = 0; l < n.levels; ++l) {
          const int64_t width = shape[2 * l + 1], height = shape[2 * l];
          const int64_t level = base + start[l] * stride;
          for (int64_t p = 0; p < n.points; ++p) {
            const int64_t i = (at_query * n.levels + l) * n.points + p;
            if (!reachable(loc[2 * i], loc[2 * i + 1])) continue;
            const Corners c = corners_of(loc[2 * i], loc[2 * i + 1], width, height);
            float along[4] = {0, 0, 0, 0};
            for (int k = 0; k < 4; ++k) {
              if (c.row[k] < 0) continue;
              const float* cell = v + level + c.row[k] * stride;
              float* cell_grad = gv + level + c.row[k] * stride;
              const float factor = w[i] * c.share[k];
              float dot = 0;
              for (int64_t d = 0; d < n.dims; ++d) {
                dot += up[d] * cell[d];
                cell_grad[d] += factor * up[d];
              }
              along[k] = dot;
            }
            gw[i] = c.share[0] * along[0] + c.share[1] * along[1] + c.share[2] * along[2] +
                    c.share[3] * along[3];
            const float dx = (1 - c.fy) * (along[1] - along[0]) + c.fy * (along[3] - along[2]);
            const float dy = (1 - c.fx) * (along[2] - along[0]) + c.fx * (along[3] - along[1]);
            gl[2 * i] = w[i] * dx * width;
            gl[2 * i + 1] = w[i] * dy * height;
          }
        }
      }
    }
  });
  return {grad_value, grad_locations, grad_weights};
}

}  // namespace

void define_deform_attn(pybind11::module_& m) {
  m.def("deform_attn_forward", &forward);
  m.def("deform_attn_backward", &backward);
}
