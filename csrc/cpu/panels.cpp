// 32 rows by weights [2048, 1024] are 134 million operations on 8 MB. A library packs the weights anew in each call,
// which takes about as long as the multiplication, and reading them as they lie costs a third. Packed once for all steps
// they are read from one end to the other, and while the rows are multiplied by a panel the next one is fetched.
//
// A tile is 24 sums in registers with AVX-512: three loads of weights and eight of inputs for 24 multiplications.
#include "panels.h"

#include "simd.h"

#include <algorithm>

namespace rlseq2seq {
namespace {

typedef float Vector16 __attribute__((vector_size(64), aligned(4)));
typedef float Vector8 __attribute__((vector_size(32), aligned(4)));
typedef float Vector4 __attribute__((vector_size(16), aligned(4)));

// Sums, weights and one input take 28 of the 32 registers of AVX-512, 13 of the 16 of AVX2 and of SSE. Vectors wider
// than the registers would be taken apart in memory.
struct Wide {
  typedef Vector16 Vector;
  static constexpr int kRows = 8;
};
struct Middle {
  typedef Vector8 Vector;
  static constexpr int kRows = 3;
};
struct Narrow {
  typedef Vector4 Vector;
  static constexpr int kRows = 3;
};
constexpr int64_t kLine = 16;  // numbers of a line of memory

// With `fetch`, a line of memory from `next` on is fetched an input.
template <class Shape, int rows, bool fetch>
RLSEQ2SEQ_INLINE void tile(const float* panel, const float* next, const PanelRows& at) {
  typedef typename Shape::Vector Vector;
  constexpr int64_t lanes = sizeof(Vector) / sizeof(float);
  Vector sums[rows][3];
  for (auto& row : sums) row[0] = row[1] = row[2] = Vector{};
  for (int64_t i = 0; i < at.width; ++i) {
    if (fetch) __builtin_prefetch(next + kLine * i, 0, 2);
    Vector first, second, third;
    std::memcpy(&first, panel + i * kPanel, sizeof first);
    std::memcpy(&second, panel + i * kPanel + lanes, sizeof second);
    std::memcpy(&third, panel + i * kPanel + 2 * lanes, sizeof third);
    for (int r = 0; r < rows; ++r) {
      const Vector input = at.inputs[r * at.width + i] - Vector{};  // in every lane; x + 0 would be an addition
      sums[r][0] += input * first;
      sums[r][1] += input * second;
      sums[r][2] += input * third;
    }
  }
  for (int r = 0; r < rows; ++r) {
    for (int v = 0; v < 3; ++v) {
      Vector start;
      std::memcpy(&start, at.start + r * at.start_stride + v * lanes, sizeof start);
      start += sums[r][v];
      std::memcpy(at.out + r * at.out_stride + v * lanes, &start, sizeof start);
    }
  }
}

RLSEQ2SEQ_INLINE PanelRows later(const PanelRows& at, int64_t row, int64_t column) {
  return {at.inputs + row * at.width, at.rows - row, at.width, at.start + row * at.start_stride + column,
          at.start_stride, at.out + row * at.out_stride + column, at.out_stride};
}

// All 48 columns, a tile of rows at a time. The next panel is fetched by the first of them: an input has three lines.
template <class Shape>
RLSEQ2SEQ_INLINE void whole_panel(const float* panel, const PanelRows& at) {
  constexpr int rows = Shape::kRows;
  constexpr int64_t columns = 3 * sizeof(typename Shape::Vector) / sizeof(float);
  static_assert(kPanel % columns == 0);
  const float* next = panel + kPanel * at.width;
  for (int64_t column = 0; column < kPanel; column += columns) {
    const float* const weights = panel + column;
    int64_t n = 0;
    for (; n + rows <= at.rows; n += rows) {
      if (next < panel + 2 * kPanel * at.width) {
        tile<Shape, rows, true>(weights, next, later(at, n, column));
        next += kLine * at.width;
      } else {
        tile<Shape, rows, false>(weights, nullptr, later(at, n, column));
      }
    }
    for (; n < at.rows; ++n) tile<Shape, 1, false>(weights, nullptr, later(at, n, column));
  }
}

// A panel with fewer columns works in a buffer that has them all, a few rows at a time.
template <class Shape>
RLSEQ2SEQ_INLINE void panel_rows(const float* panel, int64_t columns, const PanelRows& at) {
  if (columns == kPanel) return whole_panel<Shape>(panel, at);
  constexpr int64_t most = 32;
  float buffer[most * kPanel] = {};
  for (int64_t n = 0; n < at.rows; n += most) {
    const PanelRows rest = later(at, n, 0);
    const int64_t count = std::min(most, rest.rows);
    for (int64_t r = 0; r < count; ++r) {
      std::memcpy(buffer + r * kPanel, rest.start + r * rest.start_stride, sizeof(float) * columns);
    }
    whole_panel<Shape>(panel, {rest.inputs, count, at.width, buffer, kPanel, buffer, kPanel});
    for (int64_t r = 0; r < count; ++r) {
      std::memcpy(rest.out + r * rest.out_stride, buffer + r * kPanel, sizeof(float) * columns);
    }
  }
}

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
__attribute__((target("arch=x86-64-v4"))) void wide(const float* panel, int64_t columns, const PanelRows& rows) {
  panel_rows<Wide>(panel, columns, rows);
}
__attribute__((target("arch=x86-64-v3"))) void middle(const float* panel, int64_t columns, const PanelRows& rows) {
  panel_rows<Middle>(panel, columns, rows);
}
#endif

}  // namespace

void pack_panel(const float* weight, int64_t output_stride, int64_t input_stride, int64_t outputs, int64_t inputs,
                float* panel) {
  if (outputs < kPanel) std::fill(panel, panel + inputs * kPanel, 0.0f);
  if (output_stride == 1) {
    for (int64_t i = 0; i < inputs; ++i) {
      std::memcpy(panel + i * kPanel, weight + i * input_stride, sizeof(float) * outputs);
    }
    return;
  }
  for (int64_t begin = 0; begin < inputs; begin += kLine) {  // a line is read at once
    const int64_t end = std::min(begin + kLine, inputs);
    for (int64_t o = 0; o < outputs; ++o) {
      for (int64_t i = begin; i < end; ++i) panel[i * kPanel + o] = weight[o * output_stride + i * input_stride];
    }
  }
}

void multiply_panel(const float* panel, int64_t columns, const PanelRows& rows) {
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
  if (__builtin_cpu_supports("x86-64-v4")) return wide(panel, columns, rows);
  if (__builtin_cpu_supports("x86-64-v3")) return middle(panel, columns, rows);
#endif
  panel_rows<Narrow>(panel, columns, rows);
}

}  // namespace rlseq2seq
