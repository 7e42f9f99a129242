// Copyright (c) mvp_mm authors. All rights reserved.
// Pixels of every pair of segments of two maps of one image.
//
// Both maps are read once. Changes to the next pixel are marked block by block, in loops that the
// compiler turns into vector instructions; ids are looked up once a run of equal pixels.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "cpu_kernels.h"

namespace py = pybind11;

namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "marks are read as words, lowest first");

constexpr int64_t kBlock = 1024;
constexpr uint64_t kTop = uint64_t{1} << 63;

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

// From ids to cells: an open hash table of which at most a quarter is taken.
class IdTable {
 public:
  // Void, id 0, is cell 0; the k-th listed id is cell (k + 1) * step.
  IdTable(const Array<int64_t>& ids, int64_t step) {
    int bits = 3;
    while ((int64_t{1} << bits) < 4 * (ids.size() + 1)) ++bits;
    shift_ = 64 - bits;
    slots_.assign(size_t{1} << bits, Slot{0, -1});
    distinct_ = insert(0, 0);
    for (int64_t k = 0; k < ids.size(); ++k) {
      distinct_ = insert(ids.data()[k], (k + 1) * step) && distinct_;
    }
  }

  bool distinct() const { return distinct_; }

  // The cell of an id; -1 where it is not listed.
  int64_t find(int64_t id) const {
    // A free slot holds id 0, which is found before it gets there.
    const Slot& slot = slots_[home(id)];
    return __builtin_expect(slot.id == id, 1) ? slot.cell : slots_[place(id)].cell;
  }

 private:
  struct Slot {
    int64_t id, cell;
  };

  size_t home(int64_t id) const {
    return (static_cast<uint64_t>(id) * 0x9E3779B97F4A7C15u) >> shift_;
  }

  // The slot that holds the id, or the free one where it belongs.
  size_t place(int64_t id) const {
    size_t at = home(id);
    while (slots_[at].cell >= 0 && slots_[at].id != id) at = (at + 1) & (slots_.size() - 1);
    return at;
  }

  bool insert(int64_t id, int64_t cell) {
    Slot& slot = slots_[place(id)];
    if (slot.cell >= 0) return false;
    slot = {id, cell};
    return true;
  }

  std::vector<Slot> slots_;
  int shift_;
  bool distinct_;
};

// Writes where in a block runs end: the pixels of which the next one differs. Returns their number.
template <typename A, typename B>
int64_t find_ends(const A* first, const B* second, int64_t length, int32_t* ends) {
  uint8_t marks[kBlock] = {};
  for (int64_t i = 0; i < length; ++i) {
    marks[i] = (first[i] != first[i + 1]) | (second[i] != second[i + 1]);
  }
  int64_t found = 0;
  for (int64_t base = 0; base < length; base += 64) {
    uint64_t bits = 0;
    for (int k = 0; k < 8; ++k) {
      uint64_t word;
      std::memcpy(&word, marks + base + 8 * k, sizeof(word));
      bits |= (word * 0x0102040810204080u >> 56) << (8 * k);  // the lowest bit of each byte
    }
    // Four at a time and some in vain: a loop that ended at the last bit would be guessed wrong.
    const int64_t here = __builtin_popcountll(bits);
    for (int64_t written = 0; written < here; written += 4) {
      for (int k = 0; k < 4; ++k) {
        ends[found + written + k] = static_cast<int32_t>(base + __builtin_ctzll(bits | kTop));
        bits &= bits - 1;
      }
    }
    found += here;
  }
  return found;
}

// Adds up runs of equal pairs; false where an id is not listed.
template <typename A, typename B>
bool count_runs(const A* first, const B* second, int64_t size, const IdTable& rows,
                const IdTable& columns, int64_t* counts) {
  int32_t ends[kBlock + 4];
  int64_t start = 0;
  for (int64_t base = 0; base < size; base += kBlock) {
    const bool final = base + kBlock >= size;
    int64_t found = find_ends(first + base, second + base, final ? size - 1 - base : kBlock, ends);
    if (final) ends[found++] = static_cast<int32_t>(size - 1 - base);
    int64_t unlisted = 0;
    for (int64_t k = 0; k < found; ++k) {
      const int64_t end = base + ends[k];
      const int64_t row = rows.find(first[end]), column = columns.find(second[end]);
      unlisted |= row | column;
      counts[(row | column) < 0 ? 0 : row + column] += end + 1 - start;
      start = end + 1;
    }
    if (unlisted < 0) return false;
  }
  return true;
}

// (n + 1, m + 1) pixels, void first; None where an id is not listed, listed twice or 0.
template <typename A, typename B>
py::object count_pairs(const Array<A>& first, const Array<int64_t>& first_ids,
                       const Array<B>& second, const Array<int64_t>& second_ids) {
  if (first.size() != second.size()) throw py::value_error("the maps differ in size");
  const int64_t height = first_ids.size() + 1, width = second_ids.size() + 1;
  const IdTable rows(first_ids, width), columns(second_ids, 1);
  Array<int64_t> counts({height, width});
  std::memset(counts.mutable_data(), 0, counts.nbytes());
  if (!rows.distinct() || !columns.distinct() ||
      !count_runs(first.data(), second.data(), first.size(), rows, columns,
                  counts.mutable_data())) {
    return py::none();
  }
  return std::move(counts);
}

template <typename A, typename B>
void define(py::module_& m) {
  m.def("count_pairs", &count_pairs<A, B>, py::arg("first").noconvert(), py::arg("first_ids"),
        py::arg("second").noconvert(), py::arg("second_ids"));
}

}  // namespace

void define_segment_pairs(py::module_& m) {
  define<int32_t, int32_t>(m);
  define<int32_t, int64_t>(m);
  define<int64_t, int32_t>(m);
  define<int64_t, int64_t>(m);
}
