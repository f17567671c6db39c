// A matrix product with few rows, by weights that were packed before: a step of a loop has the weights of all others.
#pragma once

#include <cstdint>

namespace rlseq2seq {

// Outputs a panel. Panel p of a weight [O, I] has the inputs of outputs 48 p to 48 p + 47 side by side, [I, 48], with 0
// where there are no outputs: whole tiles of each kind of processor.
constexpr int64_t kPanel = 48;

inline int64_t panels_of(int64_t outputs) { return (outputs + kPanel - 1) / kPanel; }

// The panel that starts at `weight`, of so many outputs; element (o, i) is at o * output_stride + i * input_stride.
void pack_panel(const float* weight, int64_t output_stride, int64_t input_stride, int64_t outputs, int64_t inputs,
                float* panel);

// out[n, o] <- start[n, o] + inputs[n] . weight[o] for the outputs of one panel; `columns` of its 48 are there. Rows of
// inputs [N, width] lie one behind the other, those of start and out are so far apart. Each number is added up from the
// first input to the last, whatever N is.
struct PanelRows {
  const float* inputs;
  int64_t rows, width;
  const float* start;
  int64_t start_stride;
  float* out;
  int64_t out_stride;
};
void multiply_panel(const float* panel, int64_t columns, const PanelRows& rows);

}  // namespace rlseq2seq
