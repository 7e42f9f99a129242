// Copyright (c) mvp_mm authors. All rights reserved.
// Rows of mask logits in the frame of the original image, made as they are needed.
//
// A map lies over the canvas. It is resized to the canvas, cut to what the image fills of it, and
// resized to the image. Values are those of torch's F.interpolate on maps of one channel to the
// bit, where the compiler has fused multiplication and addition as torch's has.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace mvp_mm {

// One direction of a bilinear resize: each place of the output blends two of the input.
struct Axis {
  Axis(int64_t source, int64_t target, int64_t wanted)
      : same(source == target), before(wanted), after(wanted), keep(wanted), blend(wanted) {
    const double scale = static_cast<float>(static_cast<double>(source) / target);
    for (int64_t i = 0; i < wanted; ++i) {
      const float at = same ? i : std::max(static_cast<float>(scale * (i + 0.5) - 0.5), 0.f);
      before[i] = std::min(static_cast<int64_t>(at), source - 1);
      after[i] = same ? i : std::min(before[i] + 1, source - 1);
      blend[i] = std::min(std::max(at - static_cast<float>(before[i]), 0.f), 1.f);
      keep[i] = 1 - blend[i];
    }
  }

  bool same;
  std::vector<int64_t> before, after;
  std::vector<float> keep, blend;
};

struct Size {
  int64_t height, width;
};

// How maps come to the image; shared by all threads.
struct Frame {
  Frame(Size map, Size canvas, Size filled, Size image)
      : map(map), filled(filled), image(image),
        canvas_rows(map.height, canvas.height, filled.height),
        canvas_columns(map.width, canvas.width, filled.width),
        image_rows(filled.height, image.height, image.height),
        image_columns(filled.width, image.width, image.width),
        // A part of a row is no row: the map must be as wide as the image.
        finished(canvas_rows.same && canvas_columns.same && image_rows.same &&
                 image_columns.same && map.width == image.width) {}

  Size map, filled, image;
  Axis canvas_rows, canvas_columns, image_rows, image_columns;
  bool finished;
};

// Makes rows of one map after another; each thread has its own.
class RowMaker {
 public:
  explicit RowMaker(const Frame& frame) : frame_(frame) {}

  // Rows top ... bottom - 1 of a map in the image's frame, at `out` or, where nothing has to be
  // resized, in the map itself.
  const float* rows(const float* map, int64_t top, int64_t bottom, float* out) {
    if (frame_.finished) return map + top * frame_.image.width;
    const int64_t first = frame_.image_rows.before[top];
    const int64_t last = frame_.image_rows.after[bottom - 1];
    make_canvas(map, first, last);
    wide_.resize((last - first + 1) * frame_.image.width);
    for (int64_t r = first; r <= last; ++r) {
      across(frame_.image_columns, canvas_.data() + (r - first) * frame_.filled.width,
             frame_.image.width, wide_.data() + (r - first) * frame_.image.width);
    }
    down(frame_.image_rows, wide_.data(), first, frame_.image.width, top, bottom, out);
    return out;
  }

 private:
  // Rows first ... last of the canvas, as far as the image fills them.
  void make_canvas(const float* map, int64_t first, int64_t last) {
    const int64_t width = frame_.filled.width;
    const int64_t start = frame_.canvas_rows.before[first], end = frame_.canvas_rows.after[last];
    source_.resize((end - start + 1) * width);
    canvas_.resize((last - first + 1) * width);
    for (int64_t r = start; r <= end; ++r) {
      across(frame_.canvas_columns, map + r * frame_.map.width, width,
             source_.data() + (r - start) * width);
    }
    down(frame_.canvas_rows, source_.data(), start, width, first, last + 1, canvas_.data());
  }

  static float mix(float a, float b, float of_a, float of_b) { return std::fma(a, of_a, b * of_b); }

  static void across(const Axis& axis, const float* row, int64_t width, float* out) {
    if (axis.same) {
      std::copy(row, row + width, out);
      return;
    }
    const int64_t *before = axis.before.data(), *after = axis.after.data();
    const float *keep = axis.keep.data(), *blend = axis.blend.data();
    for (int64_t x = 0; x < width; ++x) {
      out[x] = mix(row[before[x]], row[after[x]], keep[x], blend[x]);
    }
  }

  // Output rows top ... bottom - 1 from input rows of which the first is number `first`.
  static void down(const Axis& axis, const float* rows, int64_t first, int64_t width, int64_t top,
                   int64_t bottom, float* out) {
    for (int64_t y = top; y < bottom; ++y, out += width) {
      const float* above = rows + (axis.before[y] - first) * width;
      const float* below = rows + (axis.after[y] - first) * width;
      const float keep = axis.keep[y], blend = axis.blend[y];
      if (axis.same) {
        std::copy(above, above + width, out);
        continue;
      }
      for (int64_t x = 0; x < width; ++x) out[x] = mix(above[x], below[x], keep, blend);
    }
  }

  const Frame& frame_;
  std::vector<float> source_, canvas_, wide_;
};

}  // namespace mvp_mm
