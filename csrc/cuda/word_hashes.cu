// Words of rows of token ids on CUDA: a warp a row, 32 tokens at a time, a lane a token.
//
// What a token does to the hash of the last word is affine, x -> a x + b modulo 2^64: a piece that goes on with it has
// a = B^length, one that begins another has a = 0, an empty one leaves x as it is. Affine maps compose, so a scan
// over the lanes gives each the hash before it, however many pieces a word has. Whether a word is open before a lane,
// and whether the next piece goes on with the word of this one, is read off ballots.
//
// Counted, for a row of T tokens, with most pieces being a word or a part of one:
//   bytes         8 T read coalesced, and for each token 16 of its piece and 16 of its segment, gathered from tables of
//                 some 100 KiB that stay in the second-level cache; 8 written a word, and for prefixes 8 more a token;
//                 what lies past a row's words is left alone, as a few pieces hold many and most hold one
//   instructions  about 500 for 32 tokens: two scans of five steps, one of two 64-bit products each
// A batch of 320 x 100 tokens is four rounds of a warp and 0.5 MB: a launch and a few microseconds.
#include "word_hashes.h"

namespace rlseq2seq {
namespace {

constexpr int kLanes = 32;
constexpr int kWarps = 4;
constexpr uint32_t kAllLanes = 0xffffffffu;
constexpr int64_t kEnd = 3;  // rlseq2seq/token_ids.py

// x -> a x + b
struct Affine {
  uint64_t a;
  uint64_t b;

  __device__ uint64_t operator()(uint64_t x) const { return a * x + b; }
};

// For each lane, what the lanes below it do, and last what all do: with the lane's own, from left to right.
__device__ Affine composed(Affine own, int lane) {
#pragma unroll
  for (int distance = 1; distance < kLanes; distance *= 2) {
    const Affine below{__shfl_up_sync(kAllLanes, own.a, distance), __shfl_up_sync(kAllLanes, own.b, distance)};
    if (lane >= distance) own = {own.a * below.a, own(below.b)};
  }
  return own;
}

__device__ int64_t summed(int64_t own, int lane) {
#pragma unroll
  for (int distance = 1; distance < kLanes; distance *= 2) {
    const int64_t below = __shfl_up_sync(kAllLanes, own, distance);
    if (lane >= distance) own += below;
  }
  return own;
}

// The highest of these bits, which are not none.
__device__ int highest(uint32_t bits) { return 31 - __clz(static_cast<int>(bits)); }

// What the tokens so far have come to; the same in all lanes.
struct Progress {
  int64_t columns = 0;
  uint64_t hash = 0;  // of the last word
  bool open = false;  // whether a letter would go on with it
};

__device__ void store(const WordHashShape& shape, const WordHashOutputs& outputs, bool prefixes, int64_t row,
                      int64_t column, uint64_t hash, bool continues) {
  if (column >= shape.width) return;  // tables that say too little of themselves
  outputs.hashes[row * shape.width + column] = static_cast<int64_t>(hash);
  if (prefixes) outputs.continues[row * shape.width + column] = continues;
}

// Adds 32 pieces, one a lane, and returns how many columns are filled up to each lane's.
__device__ int64_t add(const WordHashShape& shape, const WordHashOutputs& outputs, bool prefixes, int64_t row,
                       const Piece& piece, int lane, Progress& progress) {
  const uint32_t below = (1u << lane) - 1;
  const bool solid = (piece.flags & kEmpty) == 0;
  const uint32_t solids = __ballot_sync(kAllLanes, solid);
  const uint32_t opens = __ballot_sync(kAllLanes, solid && (piece.flags & kOpens) != 0);
  const bool open = (solids & below) == 0 ? progress.open : (opens >> highest(solids & below) & 1) != 0;
  const bool joins = solid && open && (piece.flags & kJoins) != 0;
  const uint32_t joined = __ballot_sync(kAllLanes, joins);

  Affine own{1, 0};
  if (solid && piece.count > 0) {
    const int64_t last = piece.count - 1;
    own = {joins && last == 0 ? piece.power(0) : 0, piece.hash(last)};
  }
  const Affine until = composed(own, lane);
  Affine before{__shfl_up_sync(kAllLanes, until.a, 1), __shfl_up_sync(kAllLanes, until.b, 1)};
  if (lane == 0) before = {1, 0};

  const bool replaces = joins && !prefixes;  // the column of the word that it goes on with
  const int64_t added = (solid ? piece.count : 0) - replaces;
  const int64_t filled = progress.columns + summed(added, lane);
  const int64_t first = filled - added - replaces;
  // Of the lanes that write the same column, all but the last one leave it: the next that is not empty goes on.
  const uint32_t above = solids & ~below & ~(1u << lane);
  const bool goes_on = !prefixes && above != 0 && (joined >> (__ffs(static_cast<int>(above)) - 1) & 1) != 0;
  const int64_t mine = solid ? piece.count - goes_on : 0;
  for (int64_t i = 0; i < mine; ++i) {
    const bool continues = i == 0 && joins;
    const uint64_t hash = piece.hash(i) + (continues ? before(progress.hash) * piece.power(i) : 0);
    store(shape, outputs, prefixes, row, first + i, hash, continues);
  }

  const Affine all{__shfl_sync(kAllLanes, until.a, kLanes - 1), __shfl_sync(kAllLanes, until.b, kLanes - 1)};
  progress.hash = all(progress.hash);
  progress.columns = __shfl_sync(kAllLanes, filled, kLanes - 1);
  if (solids != 0) progress.open = (opens >> highest(solids) & 1) != 0;
  return filled;
}

// All branches around shuffles and ballots are taken by whole warps.
__global__ void __launch_bounds__(kWarps* kLanes)
    word_hashes_kernel(WordHashShape shape, WordHashInputs inputs, WordHashOutputs outputs, bool prefixes) {
  const int lane = threadIdx.x % kLanes;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kLanes;
  if (row >= shape.rows) return;
  const int64_t* const tokens = inputs.tokens + row * shape.time;
  Progress progress;
  int64_t t = 0;
  uint32_t ended = 0;
  for (; t < shape.time && ended == 0; t += kLanes) {
    const int64_t token = t + lane < shape.time ? tokens[t + lane] : kEnd;
    ended = __ballot_sync(kAllLanes, token == kEnd);
    const bool within = (ended & (kAllLanes >> (kLanes - 1 - lane))) == 0;  // no end up to this lane
    const Piece piece = within ? find_piece(shape, inputs, token, row / shape.shared) : no_piece();
    const int64_t filled = add(shape, outputs, prefixes, row, piece, lane, progress);
    if (prefixes && t + lane < shape.time) outputs.ends[row * shape.time + t + lane] = filled;
    __syncwarp();  // the next lanes may write the last column anew
  }
  if (lane == 0) outputs.lengths[row] = progress.columns < shape.width ? progress.columns : shape.width;
  for (int64_t i = t + lane; prefixes && i < shape.time; i += kLanes) {
    outputs.ends[row * shape.time + i] = progress.columns;
  }
}

}  // namespace

cudaError_t launch_word_hashes(const WordHashShape& shape, const WordHashInputs& inputs,
                               const WordHashOutputs& outputs, bool prefixes, cudaStream_t stream) {
  if (shape.rows == 0) return cudaSuccess;
  const auto blocks = static_cast<unsigned>((shape.rows + kWarps - 1) / kWarps);
  word_hashes_kernel<<<blocks, kWarps * kLanes, 0, stream>>>(shape, inputs, outputs, prefixes);
  return cudaGetLastError();
}

}  // namespace rlseq2seq
