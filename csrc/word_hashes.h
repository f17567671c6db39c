// Hashes of words that are put together from pieces, and what the CPU and CUDA kernels of word_hashes share. No torch,
// so that nvcc compiles it by itself.
//
// The hash of a word is a polynomial over its characters, modulo 2^64, each character mixed at first:
//     H(c_1 ... c_n) = sum over i of mix(c_i) B^(n-i),  so  H(ab) = H(a) B^|b| + H(b)
// and it is the same however the word is cut. B is odd, hence B^|b| never loses a bit of H(a). Two words of one hash
// are not to be expected: a million different words have a chance of 3 in 10^8. (Words that were built to collide
// modulo any power of two, by the Thue-Morse sequence, need 1024 letters.)
//
// A piece of text is cut into segments, words or parts of one. Only its first can go on with a word of the pieces
// before, and only its last can be gone on with.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define RLSEQ2SEQ_HOST_DEVICE __host__ __device__
#else
#define RLSEQ2SEQ_HOST_DEVICE
#endif

namespace rlseq2seq {

constexpr uint64_t kHashBase = 0x9E3779B97F4A7C15u;

// Entry p of a table of pieces: the place of its first segment, shifted by kFlagBits, and these.
constexpr int kFlagBits = 3;
constexpr int64_t kJoins = 1;  // begins with a letter: goes on with a word that is open
constexpr int64_t kOpens = 2;  // ends with a letter: leaves its last word open
constexpr int64_t kEmpty = 4;  // has no characters: leaves open what is open

struct WordHashShape {
  int64_t rows;     // N
  int64_t time;     // T
  int64_t width;    // W, columns of the hashes
  int64_t sources;  // B
  int64_t shared;   // rows of a source, N / B
  int64_t pieces, segments;            // V and S
  int64_t copies, copy_segments;       // C and S'
};

struct WordHashInputs {
  const int64_t* tokens;         // [N, T]
  const int64_t* pieces;         // [V + 1]
  const int64_t* segments;       // [S, 2]: hash, and B to the number of its characters
  const int64_t* copies;         // [C + 1], of all sources
  const int64_t* copy_segments;  // [S', 2]
  const int64_t* copy_starts;    // [B + 1]: where in `copies` those of a source are
};

struct WordHashOutputs {
  int64_t* hashes;   // [N, W], of which each row is written up to its length
  int64_t* lengths;  // [N]
  bool* continues;   // [N, W], for prefixes alone
  int64_t* ends;     // [N, T], for prefixes alone
};

struct Piece {
  const int64_t* segments;
  int64_t count;  // of its segments
  int64_t flags;
  bool known;  // whether there is such a piece; otherwise it is as one that is empty

  RLSEQ2SEQ_HOST_DEVICE uint64_t hash(int64_t i) const { return static_cast<uint64_t>(segments[2 * i]); }
  RLSEQ2SEQ_HOST_DEVICE uint64_t power(int64_t i) const { return static_cast<uint64_t>(segments[2 * i + 1]); }
};

RLSEQ2SEQ_HOST_DEVICE inline Piece no_piece() { return {nullptr, 0, kEmpty, false}; }

// Whatever the tables hold, nothing outside them is read.
RLSEQ2SEQ_HOST_DEVICE inline Piece find_piece(const WordHashShape& shape, const WordHashInputs& inputs, int64_t token,
                                              int64_t source) {
  const bool copied = token >= shape.pieces;
  int64_t place = token;
  if (copied) {
    const int64_t start = inputs.copy_starts[source], end = inputs.copy_starts[source + 1];
    if (start < 0 || end > shape.copies || token - shape.pieces >= end - start) return no_piece();
    place = start + (token - shape.pieces);
  }
  if (place < 0) return no_piece();
  const int64_t* const table = copied ? inputs.copies : inputs.pieces;
  const int64_t entry = table[place];
  const int64_t first = entry >> kFlagBits, end = table[place + 1] >> kFlagBits;
  if (first < 0 || end < first || end > (copied ? shape.copy_segments : shape.segments)) return no_piece();
  const int64_t flags = entry & ((1 << kFlagBits) - 1);
  const int64_t* const segments = copied ? inputs.copy_segments : inputs.segments;
  return {segments + 2 * first, end - first, first == end ? flags & kEmpty : flags, true};
}

}  // namespace rlseq2seq
