// The Python module `rlseq2seq._C`: importing it registers the operators; itself it takes
// what is no tensor: strings, whose words it hashes. And it tells how it was built.
#include "words.h"

#include <pybind11/pybind11.h>

#ifdef RLSEQ2SEQ_WITH_CUDA
#include <cuda.h>
#endif

#include <string>

namespace py = pybind11;

namespace {

py::dict build_facts() {
  py::dict facts;
  facts["torch"] = RLSEQ2SEQ_TORCH_VERSION;
  facts["compiler"] = __VERSION__;
  facts["cplusplus"] = static_cast<long>(__cplusplus);
  facts["flags"] = RLSEQ2SEQ_FLAGS;
#ifdef RLSEQ2SEQ_WITH_CUDA
  facts["cuda"] = std::to_string(CUDA_VERSION / 1000) + "." + std::to_string(CUDA_VERSION % 1000 / 10);
#else
  facts["cuda"] = py::none();
#endif
  return facts;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Kernels of rlseq2seq; reach them through rlseq2seq.ops.";
  m.def("build_facts", &build_facts,
        "How the extension was built: versions of torch, compiler and CUDA (None without), and compiler flags.");
  rlseq2seq::bind_words(m);
}
