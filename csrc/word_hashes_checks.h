// Checks and outputs that the CPU and CUDA kernels of word_hashes share.
#pragma once

#include "checks.h"
#include "word_hashes.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <tuple>

namespace rlseq2seq {

struct WordHashTensors {
  at::Tensor tokens, pieces, segments, copies, copy_segments, copy_starts;

  WordHashInputs addresses() const {
    return {tokens.const_data_ptr<int64_t>(), pieces.const_data_ptr<int64_t>(), segments.const_data_ptr<int64_t>(),
            copies.const_data_ptr<int64_t>(), copy_segments.const_data_ptr<int64_t>(),
            copy_starts.const_data_ptr<int64_t>()};
  }

  WordHashTensors contiguous() const {
    return {tokens.contiguous(), pieces.contiguous(), segments.contiguous(),
            copies.contiguous(), copy_segments.contiguous(), copy_starts.contiguous()};
  }
};

inline WordHashShape check_word_hashes(const WordHashTensors& x, int64_t most) {
  const char* op = "word_hashes";
  const auto device = x.tokens.device();
  check_tensor(op, "tokens", x.tokens, at::kLong, {kAnySize, kAnySize}, device);
  check_tensor(op, "pieces", x.pieces, at::kLong, {kAnySize}, device);
  check_tensor(op, "segments", x.segments, at::kLong, {kAnySize, 2}, device);
  check_tensor(op, "copies", x.copies, at::kLong, {kAnySize}, device);
  check_tensor(op, "copy_segments", x.copy_segments, at::kLong, {kAnySize, 2}, device);
  check_tensor(op, "copy_starts", x.copy_starts, at::kLong, {kAnySize}, device);
  const auto check_entries = [&](const char* name, const at::Tensor& table) {
    TORCH_CHECK_VALUE(table.size(0) > 0, op, ": ", name, " must have an entry more than there are, not none.");
    return table.size(0) - 1;
  };
  const int64_t rows = x.tokens.size(0), time = x.tokens.size(1);
  const int64_t sources = check_entries("copy_starts", x.copy_starts);
  TORCH_CHECK_VALUE(most >= 0 && most <= (int64_t{1} << 30) / std::max<int64_t>(time, 1), op,
                    ": most must be at least 0 and rows shorter than 2^30 words, not ", most, " words for each of ",
                    time, " tokens.");
  return {rows,
          time,
          time * most,
          sources,
          rows_per_source(op, rows, sources),
          check_entries("pieces", x.pieces),
          x.segments.size(0),
          check_entries("copies", x.copies),
          x.copy_segments.size(0)};
}

using WordHashResult = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

inline WordHashResult empty_word_hashes(const WordHashShape& shape, const at::Tensor& tokens, bool prefixes) {
  const auto bools = tokens.options().dtype(at::kBool);
  return {at::empty({shape.rows, shape.width}, tokens.options()), at::empty({shape.rows}, tokens.options()),
          at::empty({shape.rows, prefixes ? shape.width : 0}, bools),
          at::empty({shape.rows, prefixes ? shape.time : 0}, tokens.options())};
}

inline WordHashOutputs addresses(WordHashResult& result) {
  auto& [hashes, lengths, continues, ends] = result;
  return {hashes.mutable_data_ptr<int64_t>(), lengths.mutable_data_ptr<int64_t>(), continues.mutable_data_ptr<bool>(),
          ends.mutable_data_ptr<int64_t>()};
}

}  // namespace rlseq2seq
