// Checks of arguments that the CPU and CUDA kernels share. They run on shapes, types and devices alone, never on values,
// so that they cost no host synchronisation. Each failure is one sentence that names the argument.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <string>

namespace rlseq2seq {

constexpr int64_t kAnySize = -1;

inline std::string described(at::ScalarType type, at::IntArrayRef sizes, at::Device device) {
  std::string text = std::string(at::toString(type)) + " [";
  for (size_t i = 0; i < sizes.size(); ++i) {
    text += (i == 0 ? "" : ", ") + (sizes[i] == kAnySize ? std::string("*") : std::to_string(sizes[i]));
  }
  return text + "] on " + device.str();
}

// Raises ValueError unless the tensor has this type, device and shape, of which kAnySize entries are free.
inline void check_tensor(const char* op, const char* name, const at::Tensor& tensor, at::ScalarType type,
                         at::IntArrayRef sizes, at::Device device) {
  bool right = tensor.scalar_type() == type && tensor.device() == device &&
               static_cast<size_t>(tensor.dim()) == sizes.size();
  for (size_t i = 0; right && i < sizes.size(); ++i) right = sizes[i] == kAnySize || tensor.size(i) == sizes[i];
  TORCH_CHECK_VALUE(right, op, ": ", name, " must be ", described(type, sizes, device), ", not ",
                    described(tensor.scalar_type(), tensor.sizes(), tensor.device()), ".");
}

// How many rows share a source: row n belongs to source n / shared. Raises ValueError unless it is a whole number.
inline int64_t rows_per_source(const char* op, int64_t rows, int64_t sources) {
  const int64_t shared = sources == 0 ? 0 : rows / sources;
  TORCH_CHECK_VALUE(shared * sources == rows, op, ": the number of rows, ", rows,
                    ", must be a multiple of the number of sources, ", sources, ".");
  return shared;
}

}  // namespace rlseq2seq
