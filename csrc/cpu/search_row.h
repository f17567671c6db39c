// A row of the search steps on the CPU: its sums, and what can be copied. No torch.
#pragma once

#include "../search.h"
#include "row_passes.h"
#include "source_tokens.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace rlseq2seq {

// A logit takes about 0.3 ns; to wake a thread pays from tens of microseconds on.
inline int64_t rows_a_thread(const SearchShape& shape) { return 1 + 50000 / (shape.vocabulary + 16 * shape.width); }

inline double log_sigmoid(double x) { return std::min(x, 0.0) - std::log1p(std::exp(-std::abs(x))); }

// The logits of one row after another. What a copy adds to a token is put in terms of logits too: the log-probability
// of any column is log_generate + (effective logit - log_sum).
template <class T>
class SearchRow {
 public:
  explicit SearchRow(const SearchRows<T, T>& rows) : rows_(rows), chunks_(rows.shape.chunks()) {
    maxima_.resize(static_cast<size_t>(chunks_ + 1));
    sums_.resize(static_cast<size_t>(chunks_ + 1));
  }

  void read(int64_t n) {
    const SearchShape& shape = rows_.shape;
    logits_ = rows_.logits + n * shape.stride;
    extended_ = rows_.extended + n * shape.width;
    chunk_maxima(logits_, shape.vocabulary, maxima_.data());
    largest_ = rlseq2seq::largest(maxima_.data(), chunks_);
    chunk_sums(logits_, shape.vocabulary, largest_, sums_.data());
    double sum = 0;
    for (int64_t c = 0; c < chunks_; ++c) sum += static_cast<double>(sums_[c]);
    log_sum_ = static_cast<double>(largest_) + std::log(sum);
    columns_.clear();
    masses_.clear();
    log_generate_ = 0;
    if (rows_.gate_logits != nullptr) read_copies(n);
  }

  // The effective logits of copies().
  const std::vector<T>& effective() {
    effective_.resize(columns_.size());
    for (size_t i = 0; i < columns_.size(); ++i) {
      effective_[i] = columns_[i] < rows_.shape.vocabulary ? logits_[columns_[i]] : -std::numeric_limits<T>::infinity();
    }
    const auto count = static_cast<int64_t>(columns_.size());
    add_copies(effective_.data(), masses_.data(), count, static_cast<T>(log_sum_ - gate_));
    return effective_;
  }

  // Puts the effective logits into their columns and returns them.
  const std::vector<T>& patch() {
    const std::vector<T>& effective = this->effective();
    std::fill_n(extended_, extended_size(), -std::numeric_limits<T>::infinity());
    for (size_t i = 0; i < columns_.size(); ++i) *column(columns_[i]) = effective[i];
    return effective;
  }

  double log_prob(T effective_logit) const {
    return log_generate_ + (static_cast<double>(effective_logit) - log_sum_);
  }

  // What may be copied: columns and the attention on them, never too small to matter.
  const std::vector<int64_t>& copies() const { return columns_; }
  const std::vector<T>& masses() const { return masses_; }

  int64_t chunks() const { return chunks_ + 1; }
  int64_t extended_size() const { return static_cast<int64_t>(source_.extended().size()); }
  int64_t chunk_of(int64_t column) const { return column < rows_.shape.vocabulary ? column / kChunk : chunks_; }
  int64_t first_column(int64_t chunk) const { return chunk < chunks_ ? chunk * kChunk : rows_.shape.vocabulary; }
  int64_t chunk_size(int64_t chunk) const {
    return chunk < chunks_ ? std::min(kChunk, rows_.shape.vocabulary - chunk * kChunk) : extended_size();
  }
  T* column(int64_t c) { return c < rows_.shape.vocabulary ? logits_ + c : extended_ + (c - rows_.shape.vocabulary); }
  int64_t token(int64_t c) const {
    return c < rows_.shape.vocabulary ? c : source_.extended()[c - rows_.shape.vocabulary];
  }

  // The column of a token, or -1 where it has none.
  int64_t column_of(int64_t id) const {
    if (id < rows_.shape.vocabulary) return id;
    const int64_t place = source_.place_of(id);
    return place < 0 ? -1 : rows_.shape.vocabulary + place;
  }

  T largest() const { return largest_; }
  std::vector<T>& maxima() { return maxima_; }
  std::vector<T>& sums() { return sums_; }
  double log_sum() const { return log_sum_; }
  double log_generate() const { return log_generate_; }
  double log_copy() const { return log_generate_ - gate_; }

 private:
  void read_copies(int64_t n) {
    const SearchShape& shape = rows_.shape;
    if (n / shape.shared != source_read_) {
      source_read_ = n / shape.shared;
      source_.read(rows_.source_ids + source_read_ * shape.width, shape.width, shape.vocabulary);
    }
    gate_ = static_cast<double>(rows_.gate_logits[n]);
    log_generate_ = log_sigmoid(gate_);
    source_.add_up(rows_.attention + n * shape.width, added_);
    constexpr T smallest = std::numeric_limits<T>::min();
    for (size_t slot = 0; slot < added_.size(); ++slot) {
      const int64_t column = source_.columns()[slot];
      // A token that the vocabulary has is generated too; one that it lacks keeps a finite log-probability.
      if (column < shape.vocabulary && added_[slot] < smallest) continue;
      columns_.push_back(column);
      masses_.push_back(std::max(added_[slot], smallest));
    }
  }

  const SearchRows<T, T> rows_;
  const int64_t chunks_;
  int64_t source_read_ = -1;
  SourceTokens source_;
  T* logits_ = nullptr;
  T* extended_ = nullptr;
  T largest_ = 0;
  double log_sum_ = 0, gate_ = 0, log_generate_ = 0;
  std::vector<T> maxima_, sums_;  // of each chunk
  std::vector<T> added_;          // of each slot
  std::vector<int64_t> columns_;
  std::vector<T> masses_, effective_;
};

}  // namespace rlseq2seq
