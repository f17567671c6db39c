// The distinct tokens of a source on the CPU. No torch.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace rlseq2seq {

// The distinct tokens of a source. An extended one has a column behind the vocabulary, in the order of ids.
class SourceTokens {
 public:
  void read(const int64_t* ids, int64_t width, int64_t vocabulary) {
    width_ = width;
    vocabulary_ = vocabulary;
    size_t buckets = 16;
    while (buckets < 2 * static_cast<size_t>(width)) buckets *= 2;
    heads_.assign(buckets, -1);
    slots_.resize(static_cast<size_t>(width));
    columns_.clear();
    extended_.clear();
    for (int64_t i = 0; i < width; ++i) slots_[i] = slot_of(ids[i]);
    std::sort(extended_.begin(), extended_.end());
    if (extended_.empty()) return;
    for (int64_t& column : columns_) column = column < vocabulary ? column : vocabulary + place_of(column);
  }

  // masses[slot] <- the attention on all copies of its token.
  template <class T>
  void add_up(const T* attention, std::vector<T>& masses) const {
    masses.assign(columns_.size(), T{0});
    for (int64_t i = 0; i < width_; ++i) masses[slots_[i]] += attention[i];
  }

  const std::vector<int64_t>& columns() const { return columns_; }    // of each slot
  int32_t slot(int64_t position) const { return slots_[position]; }
  const std::vector<int64_t>& extended() const { return extended_; }  // ids, ascending

  // Where an extended token is in extended(), or -1.
  int64_t place_of(int64_t id) const {
    const auto place = std::lower_bound(extended_.begin(), extended_.end(), id);
    return place != extended_.end() && *place == id ? place - extended_.begin() : -1;
  }

 private:
  int32_t slot_of(int64_t id) {
    const size_t mask = heads_.size() - 1;
    size_t bucket = (static_cast<uint64_t>(id) * 0x9E3779B97F4A7C15u >> 32) & mask;
    while (heads_[bucket] >= 0 && columns_[heads_[bucket]] != id) bucket = (bucket + 1) & mask;
    if (heads_[bucket] < 0) {
      heads_[bucket] = static_cast<int32_t>(columns_.size());
      columns_.push_back(id);  // until all are read
      if (id >= vocabulary_) extended_.push_back(id);
    }
    return heads_[bucket];
  }

  int64_t width_ = 0, vocabulary_ = 0;  // of what was read last
  std::vector<int32_t> heads_;  // of the hash table: slots, or -1
  std::vector<int32_t> slots_;  // of each position
  std::vector<int64_t> columns_, extended_;
};

}  // namespace rlseq2seq
