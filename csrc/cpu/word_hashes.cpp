// Words of rows of token ids on the CPU: a row after the other, a token after the other.
#include "../word_hashes_checks.h"

#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>

namespace rlseq2seq {
namespace {

constexpr int64_t kEnd = 3;  // rlseq2seq/token_ids.py

void write_row(const WordHashShape& shape, const WordHashInputs& inputs, const WordHashOutputs& outputs, bool prefixes,
               int64_t row) {
  const int64_t* const tokens = inputs.tokens + row * shape.time;
  int64_t* const hashes = outputs.hashes + row * shape.width;
  bool* const continues = outputs.continues + (prefixes ? row * shape.width : 0);
  int64_t* const ends = outputs.ends + (prefixes ? row * shape.time : 0);
  int64_t columns = 0, t = 0;
  uint64_t hash = 0;  // of the last word
  bool open = false;  // whether a letter would go on with it
  for (; t < shape.time && tokens[t] != kEnd; ++t) {
    const Piece piece = find_piece(shape, inputs, tokens[t], row / shape.shared);
    TORCH_CHECK_VALUE(piece.known, "word_hashes: tokens[", row, ", ", t, "] is ", tokens[t],
                      ", which is neither one of the ", shape.pieces, " pieces nor a copy of source ",
                      row / shape.shared, ".");
    bool joins = open && (piece.flags & kJoins) != 0;
    if (joins && !prefixes) --columns;
    TORCH_CHECK_VALUE(piece.count <= shape.width - columns, "word_hashes: a piece holds more words than `most` says.");
    for (int64_t i = 0; i < piece.count; ++i, joins = false) {
      hash = piece.hash(i) + (joins ? hash * piece.power(i) : 0);
      if (prefixes) continues[columns] = joins;
      hashes[columns++] = static_cast<int64_t>(hash);
    }
    if ((piece.flags & kEmpty) == 0) open = (piece.flags & kOpens) != 0;
    if (prefixes) ends[t] = columns;
  }
  outputs.lengths[row] = columns;
  if (prefixes) std::fill(ends + t, ends + shape.time, columns);
}

WordHashResult word_hashes_cpu(const at::Tensor& tokens, const at::Tensor& pieces, const at::Tensor& segments,
                               const at::Tensor& copies, const at::Tensor& copy_segments,
                               const at::Tensor& copy_starts, int64_t most, bool prefixes) {
  const WordHashTensors given{tokens, pieces, segments, copies, copy_segments, copy_starts};
  const WordHashShape shape = check_word_hashes(given, most);
  const WordHashTensors held = given.contiguous();
  const WordHashInputs inputs = held.addresses();
  WordHashResult result = empty_word_hashes(shape, tokens, prefixes);
  const WordHashOutputs outputs = addresses(result);
  // A token takes a few nanoseconds; to wake a thread pays from tens of microseconds on.
  at::parallel_for(0, shape.rows, 1 + 10000 / (1 + shape.width), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) write_row(shape, inputs, outputs, prefixes, row);
  });
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(rlseq2seq, CPU, m) { m.impl("word_hashes", &word_hashes_cpu); }

}  // namespace rlseq2seq
