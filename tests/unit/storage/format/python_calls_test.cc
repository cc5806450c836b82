#include "storage/format/python_calls.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "storage/format/python_repr.h"
#include "tests/support/status_matchers.h"
#include "tests/support/torch_tree_fixture.h"

// Each constructor once or twice. tests/python/judge_calls.py holds thousands of calls against PyTorch.
namespace sconce::format {
namespace {

using ::testing::HasSubstr;

class PythonCallsTest : public TorchTreeTest {
 protected:
  // A call with the arguments that `write` puts on the stack; as Python would print the result.
  std::string Repr(
      const std::string& callee, const std::function<void()>& write = [] {}) {
    out_ = PickleWriter();
    Write(callee, write);
    const absl::StatusOr<TorchFile> file = Read();
    if (!file.ok()) return std::string(ToStd(file.status().message()));
    return PythonRepr(file->manifest, file->manifest.root(), 1000);
  }
  void Write(const std::string& callee, const std::function<void()>& write) {
    const size_t dot = callee.rfind('.');
    Mark(callee.substr(0, dot), callee.substr(dot + 1));
    write();
    Call();
  }
  void List(const std::vector<int64_t>& numbers) {
    out_.Op(PickleOp::kEmptyList);
    out_.Op(PickleOp::kMark);
    for (const int64_t number : numbers) out_.Int(number);
    out_.Op(PickleOp::kAppends);
  }
  void Pair(const std::string& key, int64_t value) {
    out_.Str(key);
    out_.Int(value);
    out_.Tuple(2);
  }
};

TEST_F(PythonCallsTest, ContainersAreMadeOfWhateverHasElements) {
  EXPECT_EQ(Repr("__builtin__.set", [&] { out_.Str("aéa"); }), "{'a', 'é'}");
  EXPECT_EQ(Repr("__builtin__.set", [&] { out_.Bytes("ab"); }), "{97, 98}");
  EXPECT_EQ(Repr("collections.OrderedDict",
                 [&] {
                   Pair("a", 1);
                   out_.Str("bc");
                   out_.Tuple(2);
                 }),
            "OrderedDict({'a': 1, 'b': 'c'})");
  EXPECT_EQ(Repr("collections.Counter", [&] { out_.Str("abca"); }), "Counter({'a': 2, 'b': 1, 'c': 1})");
  EXPECT_EQ(Repr("collections.Counter", [&] { out_.Op(PickleOp::kNone); }), "Counter({})");
  EXPECT_EQ(Repr("torch.Size", [&] { List({2, 3}); }), "torch.Size([2, 3])");
  EXPECT_EQ(Repr("torch.Size"), "torch.Size([])");
}

TEST_F(PythonCallsTest, TheOrderOfASetIsNobodysAnswer) {
  const auto set = [&] { Write("__builtin__.set", [&] { List({1, 2}); }); };
  EXPECT_EQ(Repr("__builtin__.set", set), "{1, 2}");
  EXPECT_THAT(Repr("__builtin__.bytearray", set), HasSubstr("another in each process"));
  EXPECT_THAT(Repr("collections.Counter", set), HasSubstr("another in each process"));
}

TEST_F(PythonCallsTest, BytesAndNumbers) {
  EXPECT_EQ(Repr("__builtin__.bytearray", [&] { out_.Int(3); }), "bytearray(b'\\x00\\x00\\x00')");
  EXPECT_EQ(Repr("__builtin__.bytearray", [&] { List({1, 255}); }), "bytearray(b'\\x01\\xff')");
  EXPECT_EQ(Repr("__builtin__.bytearray",
                 [&] {
                   out_.Str("é");
                   out_.Str("utf-8");
                 }),
            "bytearray(b'\\xc3\\xa9')");
  EXPECT_EQ(Repr("_codecs.encode", [&] { out_.Str("é"); }), "b'\\xc3\\xa9'");
  EXPECT_EQ(Repr("__builtin__.complex"), "0j");
  EXPECT_EQ(Repr("__builtin__.complex", [&] { out_.Str("1-2j"); }), "(1-2j)");
  EXPECT_EQ(Repr("torch.device", [&] { Write("torch.device", [&] { out_.Str("cuda:1"); }); }),
            Repr("torch.device", [&] {
              out_.Str("cuda");
              out_.Int(1);
            }));
  EXPECT_THAT(Repr("torch.device", [&] { out_.Int(0); }), HasSubstr("another one on each machine"));
}

TEST_F(PythonCallsTest, AListIsReadAtTheMomentOfTheCall) {
  out_.Op(PickleOp::kMark);
  List({1});
  const PickleWriter::Memo list = out_.Put();
  Write("__builtin__.set", [&] { out_.Get(list); });
  out_.Get(list);
  out_.Int(2);
  out_.Op(PickleOp::kAppend);
  out_.Op(PickleOp::kTuple);
  ASSERT_OK_AND_ASSIGN(const TorchFile file, Read());
  EXPECT_EQ(PythonRepr(file.manifest, file.manifest.root(), 100), "([1, 2], {1}, [1, 2])");
}

TEST_F(PythonCallsTest, EqualKeysOfDifferentFormsAreOne) {
  EXPECT_EQ(Repr("__builtin__.set",
                 [&] {
                   out_.Op(PickleOp::kMark);
                   Write("_codecs.encode", [&] { out_.Str("é"); });
                   out_.Bytes("\xc3\xa9");
                   Write("__builtin__.complex", [&] { out_.Int(1); });
                   out_.Int(1);
                   Write("torch.device", [&] { out_.Str("cuda:1"); });
                   Write("torch.device", [&] {
                     out_.Str("cuda");
                     out_.Int(1);
                   });
                   Write("torch.Size", [&] { List({2}); });
                   Ints({2});
                   out_.Op(PickleOp::kTuple);
                 }),
            "{(1+0j), b'\\xc3\\xa9', torch.Size([2]), device(type='cuda', index=1)}");
}

TEST_F(PythonCallsTest, NewLeavesAContainerEmpty) {
  for (const std::string name : {"set", "bytearray"}) {
    out_ = PickleWriter();
    out_.Global("__builtin__", name);
    List({1});
    out_.Tuple(1);
    out_.Op(PickleOp::kNewObj);
    ASSERT_OK_AND_ASSIGN(const TorchFile file, Read());
    EXPECT_TRUE(file.manifest.nodes.back().children.empty());
    EXPECT_EQ(file.manifest.nodes.back().text, "");
  }
}

TEST_F(PythonCallsTest, AnOrderedDictsAttributesAreUpdated) {
  out_.Global("collections", "OrderedDict");
  out_.Tuple(0);
  out_.Op(PickleOp::kReduce);
  for (const int value : {1, 2}) {
    out_.Op(PickleOp::kEmptyDict);
    out_.Str("mark");
    out_.Int(value);
    out_.Op(PickleOp::kSetItem);
    out_.Op(PickleOp::kBuild);
  }
  ASSERT_OK_AND_ASSIGN(const TorchFile file, Read());
  const Node& root = file.manifest.nodes.back();
  ASSERT_EQ(root.children.size(), 1u);
  EXPECT_EQ(PythonRepr(file.manifest, root.children[0], 100), "{'mark': 2}");
}

TEST_F(PythonCallsTest, TensorsOfNumbers) {
  Write("torch.FloatTensor", [&] {
    out_.Op(PickleOp::kMark);
    List({1, 2});
    List({3, 4});
    out_.Op(PickleOp::kTuple);
  });
  ASSERT_OK_AND_ASSIGN(const TorchFile file, Read());
  ASSERT_EQ(file.manifest.tensors.size(), 1u);
  const TensorView& view = file.manifest.tensors[0];
  EXPECT_EQ(view.dtype, DType::kFloat32);
  EXPECT_EQ(view.shape, Dims({2, 2}));
  EXPECT_EQ(view.stride, Dims({2, 1}));
  const float numbers[] = {1, 2, 3, 4};
  std::string bytes(sizeof numbers, '\0');
  std::memcpy(&bytes[0], numbers, sizeof numbers);
  EXPECT_EQ(file.manifest.storages[0].inline_bytes, bytes);
  EXPECT_EQ(AsText(file.bytes[0]), bytes);
}

TEST_F(PythonCallsTest, ALargeTensorOfNumbersIsABulkStorage) {
  Write("torch.LongTensor", [&] { List(std::vector<int64_t>(1000, 7)); });
  ASSERT_OK_AND_ASSIGN(const TorchFile file, Read());
  ASSERT_TRUE(IsBulk(file.manifest.storages[0]));
  ASSERT_EQ(file.bytes[0].size(), 8000u);
  EXPECT_EQ(file.bytes[0][7992], 7);
}

TEST_F(PythonCallsTest, ATensorOfATensorSharesItsStorage) {
  out_.Op(PickleOp::kMark);
  Write("torch.FloatTensor", [&] { List({1, 2}); });
  const PickleWriter::Memo first = out_.Put();
  Write("torch.FloatTensor", [&] { out_.Get(first); });
  Write("torch.FloatTensor", [&] { Write("torch.storage.UntypedStorage", [&] { List({0, 0, 128, 63, 300}); }); });
  out_.Op(PickleOp::kTuple);
  ASSERT_OK_AND_ASSIGN(const TorchFile file, Read());
  ASSERT_EQ(file.manifest.tensors.size(), 3u);
  EXPECT_EQ(file.manifest.tensors[0].storage, file.manifest.tensors[1].storage);
  EXPECT_EQ(file.manifest.tensors[2].shape, Dims({1}));
  EXPECT_EQ(file.manifest.storages[file.manifest.tensors[2].storage].inline_bytes, std::string("\0\0\x80\x3f\x2c", 5));
}

TEST_F(PythonCallsTest, NumbersMustFit) {
  const auto message = [&](const std::string& name, int64_t number) { return Repr(name, [&] { List({number}); }); };
  EXPECT_THAT(message("torch.CharTensor", 128), HasSubstr("do not fit"));
  EXPECT_EQ(message("torch.CharTensor", -128), "<tensor>");
  EXPECT_EQ(message("torch.ByteTensor", -255), "<tensor>");  // wraps, as in PyTorch
  EXPECT_THAT(message("torch.ByteTensor", -256), HasSubstr("do not fit"));
  EXPECT_THAT(Repr("torch.LongTensor",
                   [&] {
                     out_.Float(9223372036854775808.0);
                     out_.Tuple(1);
                   }),
              HasSubstr("do not fit"));
  EXPECT_THAT(Repr("torch.FloatTensor",
                   [&] {
                     out_.Op(PickleOp::kMark);
                     List({1});
                     List({1, 2});
                     out_.Op(PickleOp::kTuple);
                   }),
              HasSubstr("different lengths"));
}

TEST_F(PythonCallsTest, UninitialisedMemoryIsRefused) {
  for (const std::string name :
       {"torch.Tensor", "torch.LongTensor", "torch.storage.UntypedStorage", "torch.storage.TypedStorage"}) {
    EXPECT_THAT(Repr(name, [&] { out_.Int(5); }), HasSubstr("whatever was in memory")) << name;
    EXPECT_THAT(Repr(name, [&] { out_.Int(0); }), testing::Not(HasSubstr("memory"))) << name;
  }
  EXPECT_THAT(Repr("torch.Tensor", [&] { Write("torch.Size", [&] {
                                           List({2, 3});
                                         }); }),
              HasSubstr("whatever was in memory"));
  EXPECT_EQ(Repr("torch.Tensor",
                 [&] {
                   out_.Int(2);
                   out_.Int(0);
                 }),
            "<tensor>");
}

TEST_F(PythonCallsTest, WhatCallsMakeIsBoundedByWhatWasRead) {
  Write("__builtin__.bytearray", [&] { out_.Int(1'000'000'000); });
  EXPECT_THAT(Read(), FailsWith(Reason::INPUT_LIMIT_EXCEEDED));
  // One text, encoded and taken apart over and over.
  for (const std::string name : {"_codecs.encode", "__builtin__.set", "collections.Counter", "__builtin__.complex"}) {
    out_ = PickleWriter();
    out_.Op(PickleOp::kMark);
    out_.Str(std::string(10'000, '1'));
    const PickleWriter::Memo text = out_.Put();
    for (int i = 0; i < 2000; ++i) Write(name, [&] { out_.Get(text); });
    out_.Op(PickleOp::kTuple);
    EXPECT_THAT(Read(), FailsWith(Reason::INPUT_LIMIT_EXCEEDED)) << name;
  }
}

TEST_F(PythonCallsTest, CallsMayNestAsDeepAsTheFileIs) {
  constexpr int kDeep = 100'000;
  out_.Op(PickleOp::kMark);
  for (int i = 0; i < kDeep; ++i) {
    out_.Global("torch", "FloatTensor");
    out_.Op(PickleOp::kMark);
  }
  List({1});
  for (int i = 0; i < kDeep; ++i) {
    out_.Op(PickleOp::kTuple);
    out_.Op(PickleOp::kReduce);
  }
  out_.Op(PickleOp::kTuple);
  ASSERT_OK_AND_ASSIGN(const TorchFile file, Read());
  EXPECT_EQ(file.manifest.tensors.size(), 1u);
}

}  // namespace
}  // namespace sconce::format
