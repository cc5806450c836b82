#ifndef SCONCE_STORAGE_FORMAT_PICKLE_WRITER_H_
#define SCONCE_STORAGE_FORMAT_PICKLE_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "storage/format/pickle_opcodes.h"

namespace sconce::format {

// Writes the opcodes of a pickle of protocol 2, what torch.save writes and torch.load(weights_only=True) takes. Knows
// opcodes, not trees: the caller puts values, marks and the opcodes that gather them in the right order.
class PickleWriter {
 public:
  using Memo = uint32_t;

  PickleWriter();

  void Op(PickleOp op) { out_.push_back(static_cast<char>(op)); }
  void Int(int64_t number);
  void Long(absl::string_view little_endian);  // two's complement
  void Float(double number);
  void Bool(bool value) { Op(value ? PickleOp::kNewTrue : PickleOp::kNewFalse); }
  // Of 4 GiB and more it takes an opcode of protocol 4, which PyTorch's weights-only loader does not know.
  void Str(absl::string_view utf8);
  // A bytes object, the way protocol 2 has it: _codecs.encode(text, 'latin1').
  void Bytes(absl::string_view bytes);
  // The same, of which the text (`utf8_bytes` of them, see latin1.h) is left out; returns where it belongs in what
  // Finish() returns.
  size_t BytesWithoutText(uint64_t utf8_bytes);
  void ByteArray(absl::string_view bytes);
  // What `count` values on the stack become; for more than three the mark must be below them.
  void Tuple(size_t count);
  static bool TupleNeedsMark(size_t count) { return count > 3; }

  // The value on top can be named again.
  Memo Put();
  void Get(Memo memo);

  // Written out the first time, named afterwards: for globals and for strings that every tensor repeats.
  void Global(absl::string_view module, absl::string_view name);
  void SharedStr(absl::string_view utf8);
  // The same for anything: false until NameAs(key) was said of the value on top, then names it. Keys are a space of
  // their own.
  bool GetNamed(absl::string_view key);
  void NameAs(absl::string_view key);

  size_t size() const { return out_.size(); }
  // Ends the pickle.
  std::string Finish();

 private:
  void StrHeader(uint64_t utf8_bytes);
  void Latin1(absl::string_view bytes);
  bool GetIfKnown(absl::string_view key);

  std::string out_;
  Memo next_memo_ = 0;
  absl::flat_hash_map<std::string, Memo> known_;
  absl::flat_hash_map<std::string, Memo> named_;
};

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_PICKLE_WRITER_H_
