// A product by a packed weight on all threads.
#pragma once

#include "panels.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>

namespace rlseq2seq {

// A weight [O, I] with any strides as panels; in float64 as one panel of all outputs.
at::Tensor pack_weight_cpu(const at::Tensor& weight);

// All outputs of `panels` for the rows; panels are shared out among threads, cut by rows so that none is idle.
inline void multiply_panels(const float* panels, int64_t outputs, const PanelRows& all) {
  constexpr int64_t rows_at_once = 64;
  const int64_t cuts = (all.rows + rows_at_once - 1) / rows_at_once;
  const int64_t products = kPanel * std::min(all.rows, rows_at_once) * all.width;
  const int64_t grain = 1 + 1000000 / (1 + products);  // 1e6 products take 20 us
  at::parallel_for(0, panels_of(outputs) * cuts, grain, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t column = unit / cuts * kPanel, row = unit % cuts * rows_at_once;
      PanelRows part = all;
      part.inputs += row * all.width;
      part.rows = std::min(rows_at_once, all.rows - row);
      part.start += row * all.start_stride + column;
      part.out += row * all.out_stride + column;
      multiply_panel(panels + column * all.width, std::min(kPanel, outputs - column), part);
    }
  });
}

}  // namespace rlseq2seq
