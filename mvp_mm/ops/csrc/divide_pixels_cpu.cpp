// Copyright (c) mvp_mm authors. All rights reserved.
// Divides the pixels of an image among masks, 8 rows of the image at a time.
//
// The mask of the highest score times probability owns a pixel. Extremes of 8 x 8 tiles tell most
// of it; elsewhere torch's own sigmoid of the pixels decides, so that the outcome is torch's. The
// maps are resized as they are read: no more of them is held than a thread's 8 rows.
#include <torch/extension.h>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <mutex>
#include <utility>
#include <vector>

#include "cpu_kernels.h"
#include "resized_rows.h"

namespace {

using mvp_mm::Frame;
using mvp_mm::RowMaker;

constexpr int64_t kTile = 8, kPixels = kTile * kTile;

inline float higher(float a, float b) { return (b > a) | (b != b) ? b : a; }
inline float lower(float a, float b) { return (b < a) | (b != b) ? b : a; }

float logit(double probability) {
  if (probability <= 0) return -std::numeric_limits<float>::infinity();
  if (probability >= 1) return std::numeric_limits<float>::infinity();
  return static_cast<float>(std::log(probability / (1 - probability)));
}

void sigmoid(std::vector<float>& values) {
  if (values.empty()) return;
  at::from_blob(values.data(), {static_cast<int64_t>(values.size())}, at::kFloat).sigmoid_();
}

struct Masks {
  const float* maps;
  const int64_t* rows;
  const float* scores;
  int64_t count;
  float threshold, slack;
  // A logit above `surely_in` is claimed, one below `surely_out` is not; of others the sigmoid says.
  float surely_in, surely_out;
};

// Pixels of each mask: where it is the highest, those among them that it claims, all it claims.
struct Counts {
  explicit Counts(int64_t n) : owned(n), visible(n), claimed(n) {}
  std::vector<int64_t> owned, visible, claimed;
};

// What one thread does, band after band.
class Divider {
 public:
  Divider(const Masks& masks, const Frame& frame, int32_t* owner)
      : counts(masks.count), masks_(masks), frame_(frame), maker_(frame), owner_(owner),
        width_(frame.image.width), across_((width_ + kTile - 1) / kTile),
        buffer_(frame.finished ? 0 : masks.count * kTile * width_), values_(masks.count),
        extremes_(2 * masks.count * across_), columns_(2 * width_) {}

  void divide_band(int64_t top) {
    top_ = top;
    height_ = std::min(kTile, frame_.image.height - top);
    for (int64_t q = 0; q < masks_.count; ++q) {
      const float* map = masks_.maps + masks_.rows[q] * frame_.map.height * frame_.map.width;
      values_[q] = maker_.rows(map, top, top + height_, buffer_.data() + q * kTile * width_ *
                                                            !frame_.finished);
      find_extremes(q);
      count_claimed(q);
    }
    // Only bounds from here on: the highest and the lowest probability of each tile.
    sigmoid(extremes_);
    contested_.clear();
    for (int64_t tile = 0; tile < across_; ++tile) divide_tile(tile);
    settle_contested();
  }

  // Looks at the logits that are too near to the threshold.
  void settle_doubtful() {
    sigmoid(doubtful_);
    for (size_t k = 0; k < doubtful_.size(); ++k) {
      counts.claimed[doubtful_of_[k]] += doubtful_[k] >= masks_.threshold;
    }
  }

  Counts counts;

 private:
  float* high(int64_t q) { return extremes_.data() + q * across_; }
  float* low(int64_t q) { return extremes_.data() + (masks_.count + q) * across_; }
  int64_t tile_width(int64_t tile) const { return std::min(kTile, width_ - tile * kTile); }

  void find_extremes(int64_t q) {
    float *most = columns_.data(), *least = most + width_;
    std::copy(values_[q], values_[q] + width_, most);
    std::copy(values_[q], values_[q] + width_, least);
    for (int64_t y = 1; y < height_; ++y) {
      const float* row = values_[q] + y * width_;
      for (int64_t x = 0; x < width_; ++x) {
        most[x] = higher(most[x], row[x]);
        least[x] = lower(least[x], row[x]);
      }
    }
    for (int64_t tile = 0; tile < across_; ++tile) {
      const int64_t left = tile * kTile;
      float top = most[left], bottom = least[left];
      for (int64_t x = left + 1; x < left + tile_width(tile); ++x) {
        top = higher(top, most[x]);
        bottom = lower(bottom, least[x]);
      }
      high(q)[tile] = top;
      low(q)[tile] = bottom;
    }
  }

  void count_claimed(int64_t q) {
    int64_t claimed = 0;
    for (int64_t tile = 0; tile < across_; ++tile) {
      const int64_t columns = tile_width(tile);
      if (low(q)[tile] > masks_.surely_in) {
        claimed += height_ * columns;
      } else if (!(high(q)[tile] < masks_.surely_out)) {
        for (int64_t y = 0; y < height_; ++y) {
          const float* row = values_[q] + y * width_ + tile * kTile;
          int64_t in = 0, out = 0;
          for (int64_t x = 0; x < columns; ++x) {
            in += row[x] > masks_.surely_in;
            out += row[x] < masks_.surely_out;
          }
          claimed += in;
          if (in + out < columns) keep_doubtful(q, row, columns);
        }
      }
    }
    counts.claimed[q] += claimed;
  }

  void keep_doubtful(int64_t q, const float* row, int64_t columns) {
    for (int64_t x = 0; x < columns; ++x) {
      if (row[x] > masks_.surely_in || row[x] < masks_.surely_out) continue;
      doubtful_.push_back(row[x]);
      doubtful_of_.push_back(q);
    }
  }

  // Gives the tile to the only mask that may be the highest in it, or leaves it to the pixels.
  void divide_tile(int64_t tile) {
    float certain = 0;
    for (int64_t q = 0; q < masks_.count; ++q) {
      certain = higher(certain, low(q)[tile] * masks_.scores[q]);
    }
    const float needed = certain * (1 - masks_.slack);
    const size_t start = contested_.size();
    for (int64_t q = 0; q < masks_.count; ++q) {
      // Negated, so that a NaN takes part and does not win silently.
      if (!(high(q)[tile] * masks_.scores[q] < needed)) contested_.emplace_back(tile, q);
    }
    const int64_t first = contested_[start].second;
    const bool full = low(first)[tile] > masks_.threshold + masks_.slack;
    const bool none = high(first)[tile] < masks_.threshold - masks_.slack;
    if (contested_.size() > start + 1 || !(full || none)) return;
    contested_.pop_back();
    const int64_t area = height_ * tile_width(tile);
    counts.owned[first] += area;
    if (full) counts.visible[first] += area;
    for (int64_t y = 0; y < height_; ++y) {
      std::fill_n(owner_at(tile, y), tile_width(tile), full ? first : masks_.count);
    }
  }

  int32_t* owner_at(int64_t tile, int64_t y) const {
    return owner_ + (top_ + y) * width_ + tile * kTile;
  }

  void settle_contested() {
    probabilities_.resize(contested_.size() * kPixels);
    float* into = probabilities_.data();
    for (const auto& [tile, q] : contested_) {
      const float* from = values_[q] + tile * kTile;
      const int64_t columns = tile_width(tile);
      for (int64_t y = 0; y < kTile; ++y, into += kTile) {
        // Beyond the image anything will do: it is not read.
        std::fill(std::copy_n(from + std::min(y, height_ - 1) * width_, columns, into),
                  into + kTile, 0.f);
      }
    }
    sigmoid(probabilities_);
    for (size_t start = 0, end; start < contested_.size(); start = end) {
      for (end = start + 1; end < contested_.size() &&
                            contested_[end].first == contested_[start].first; ++end) {}
      compete(start, end);
    }
  }

  // Lets the masks of contested_[start ... end - 1] compete for each pixel of their tile.
  void compete(size_t start, size_t end) {
    std::array<float, kPixels> best, probability;
    std::array<int32_t, kPixels> winner;
    best.fill(-1);
    winner.fill(masks_.count);
    probability.fill(0);
    for (size_t k = start; k < end; ++k) {
      const int32_t q = contested_[k].second;
      const float* mine = probabilities_.data() + k * kPixels;
      for (int64_t i = 0; i < kPixels; ++i) {
        // The first of equal values wins; where one is no number, nobody does.
        const float value = mine[i] * masks_.scores[q];
        const bool nan = value != value, wins = (value > best[i]) | nan;
        best[i] = nan ? std::numeric_limits<float>::infinity() : wins ? value : best[i];
        winner[i] = nan ? static_cast<int32_t>(masks_.count) : wins ? q : winner[i];
        probability[i] = wins ? mine[i] : probability[i];
      }
    }
    const int64_t tile = contested_[start].first;
    for (int64_t y = 0; y < height_; ++y) {
      for (int64_t x = 0; x < tile_width(tile); ++x) {
        const int64_t i = y * kTile + x;
        const bool claims = winner[i] < masks_.count && probability[i] >= masks_.threshold;
        if (winner[i] < masks_.count) counts.owned[winner[i]] += 1;
        if (claims) counts.visible[winner[i]] += 1;
        owner_at(tile, y)[x] = claims ? winner[i] : masks_.count;
      }
    }
  }

  const Masks& masks_;
  const Frame& frame_;
  RowMaker maker_;
  int32_t* owner_;
  int64_t width_, across_, top_ = 0, height_ = 0;
  std::vector<float> buffer_;          // 8 rows of each map
  std::vector<const float*> values_;   // where they are
  std::vector<float> extremes_, columns_, probabilities_, doubtful_;
  std::vector<int64_t> doubtful_of_;
  std::vector<std::pair<int64_t, int64_t>> contested_;  // tiles and masks, tile by tile
};

mvp_mm::Size size_of(const std::pair<int64_t, int64_t>& size) { return {size.first, size.second}; }

// Masks are rows (n,) of maps (m, h', w') float32; sizes are (height, width). Returns the owners
// (h, w) int32, n where nobody claims the pixel, and counts (3, n) int64, see Counts.
std::pair<torch::Tensor, torch::Tensor> divide_pixels(
    const torch::Tensor& maps, const torch::Tensor& rows, const torch::Tensor& scores,
    std::pair<int64_t, int64_t> canvas, std::pair<int64_t, int64_t> filled,
    std::pair<int64_t, int64_t> image, double threshold, double slack) {
  TORCH_CHECK(maps.dim() == 3 && maps.is_contiguous() && maps.scalar_type() == torch::kFloat,
              "divide_pixels needs contiguous float32 maps (m, h, w)");
  TORCH_CHECK(rows.dim() == 1 && rows.is_contiguous() && rows.scalar_type() == torch::kLong,
              "divide_pixels needs rows (n,) int64");
  TORCH_CHECK(scores.sizes() == rows.sizes() && scores.is_contiguous() &&
                  scores.scalar_type() == torch::kFloat && rows.numel() > 0,
              "divide_pixels needs scores (n,) float32, n > 0");
  TORCH_CHECK(filled.first <= canvas.first && filled.second <= canvas.second && maps.numel() > 0,
              "divide_pixels needs an image on the canvas and maps that are not empty");
  const int64_t count = rows.size(0), *row = rows.data_ptr<int64_t>();
  for (int64_t k = 0; k < count; ++k) {
    TORCH_CHECK_INDEX(row[k] >= 0 && row[k] < maps.size(0), "no map ", row[k]);
  }
  const Frame frame({maps.size(1), maps.size(2)}, size_of(canvas), size_of(filled),
                    size_of(image));
  const Masks masks{maps.data_ptr<float>(), row, scores.data_ptr<float>(), count,
                    static_cast<float>(threshold), static_cast<float>(slack),
                    logit(threshold + slack), logit(threshold - slack)};
  torch::Tensor owner = torch::empty({image.first, image.second}, torch::kInt);
  torch::Tensor counts = torch::zeros({3, count}, torch::kLong);
  std::mutex adding;
  at::parallel_for(0, (image.first + kTile - 1) / kTile, 1, [&](int64_t begin, int64_t end) {
    Divider divider(masks, frame, owner.data_ptr<int32_t>());
    for (int64_t band = begin; band < end; ++band) divider.divide_band(band * kTile);
    divider.settle_doubtful();
    const std::lock_guard<std::mutex> lock(adding);
    int64_t* total = counts.data_ptr<int64_t>();
    for (const auto* part : {&divider.counts.owned, &divider.counts.visible,
                             &divider.counts.claimed}) {
      for (const int64_t value : *part) *total++ += value;
    }
  });
  return {owner, counts};
}

}  // namespace

void define_divide_pixels(pybind11::module_& m) {
  m.def("divide_pixels", &divide_pixels, pybind11::call_guard<pybind11::gil_scoped_release>());
}
