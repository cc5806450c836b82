#ifndef SCONCE_STORAGE_FORMAT_NUMPY_VALUES_H_
#define SCONCE_STORAGE_FORMAT_NUMPY_VALUES_H_

#include <string>

#include "absl/status/statusor.h"
#include "storage/format/pickle_reader.h"

namespace sconce::format {

// The dtype of a pickled numpy value, as numpy's `.str` gives it: "<f8", ">i4", "|b1", "<U5". `value` is the pickle's
// numpy.dtype(name, align, copy) with the state (version, byte order, subdtype, names, fields, size, alignment, flags).
// Nothing of numpy is called. FILE_UNSUPPORTED for objects, dates, structures and subarrays, which have no plain bytes;
// FILE_MALFORMED for what numpy does not write.
absl::StatusOr<std::string> ReadNumpyDtype(const PickleGraph& graph, PickleIndex value);

// The three parts of a pickled array beside its dtype.
struct NumpyArrayParts {
  PickleIndex dtype = PickleGraph::kAbsent;
  PickleIndex shape = PickleGraph::kAbsent;
  PickleIndex data = PickleGraph::kAbsent;  // a bytes object or a bytearray, or a call that makes one
  bool is_fortran = false;                  // the first index runs fastest
};

// Both ways in which numpy pickles an array:
//   _reconstruct(ndarray, (0,), b'b') with the state (1, shape, dtype, is_fortran, data); without the 1 before
//   numpy 1.0 _frombuffer(data, dtype, shape, "C" or "F"), in protocol 5
// Only their form is looked at, and that the dtype can be kept (errors as of ReadNumpyDtype).
absl::StatusOr<NumpyArrayParts> ReadNumpyArray(const PickleGraph& graph, PickleIndex value);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_NUMPY_VALUES_H_
