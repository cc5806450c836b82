#ifndef SCONCE_STORAGE_FORMAT_PICKLE_OPCODES_H_
#define SCONCE_STORAGE_FORMAT_PICKLE_OPCODES_H_

#include <cstdint>

// The opcodes of Python's pickle protocols 2 to 5 that the reader knows (Python's Lib/pickletools.py describes each).
// Absent, and so refused: the text opcodes of protocol 0, INST and OBJ, the extension registry, out-of-band buffers and
// text persistent ids.
namespace sconce::format {

enum class PickleOp : uint8_t {
  kMark = '(',
  kStop = '.',
  kPop = '0',
  kPopMark = '1',
  kDup = '2',
  kBinFloat = 'G',  // 8 bytes, big-endian
  kBinInt = 'J',    // 4 bytes, signed
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNone = 'N',
  kBinPersId = 'Q',
  kReduce = 'R',
  kBinString = 'T',       // 4 bytes of length; Python 2's str
  kShortBinString = 'U',  // 1 byte of length
  kBinUnicode = 'X',      // 4 bytes of length
  kBinBytes = 'B',        // 4 bytes of length
  kShortBinBytes = 'C',   // 1 byte of length
  kEmptyList = ']',
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',  // two lines: module, name
  kDict = 'd',
  kAppends = 'e',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kList = 'l',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTuple = 't',
  kEmptyTuple = ')',
  kSetItems = 'u',
  kEmptyDict = '}',
  // Protocol 2
  kProto = 0x80,
  kNewObj = 0x81,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8a,  // 1 byte of length, little-endian two's complement
  kLong4 = 0x8b,  // 4 bytes of length
  // Protocol 4
  kShortBinUnicode = 0x8c,
  kBinUnicode8 = 0x8d,
  kBinBytes8 = 0x8e,
  kEmptySet = 0x8f,
  kAddItems = 0x90,
  kFrozenSet = 0x91,  // known to be refused by name
  kNewObjEx = 0x92,
  kStackGlobal = 0x93,
  kMemoize = 0x94,
  kFrame = 0x95,
  // Protocol 5
  kByteArray8 = 0x96,
};

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_PICKLE_OPCODES_H_
