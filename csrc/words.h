// Words of Python strings as hashes.
#pragma once

#include <pybind11/pybind11.h>

namespace rlseq2seq {

void bind_words(pybind11::module_& m);

}  // namespace rlseq2seq
