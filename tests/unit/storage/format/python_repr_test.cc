#include "storage/format/python_repr.h"

#include <cmath>

#include "tests/support/manifest_builder.h"
#include "tests/support/status_matchers.h"

namespace sconce::format {
namespace {

// What the same value prints in Python 3.11.
template <typename Make>
std::string Repr(Make make, size_t max_bytes = 1000) {
  ManifestBuilder b;
  const NodeIndex node = make(b);
  EXPECT_OK(Validate(b.manifest()));
  return PythonRepr(b.manifest(), node, max_bytes);
}

TEST(PythonReprTest, FloatsPrintTheShortestDigitsThatReadBack) {
  EXPECT_EQ(FloatRepr(0.1), "0.1");
  EXPECT_EQ(FloatRepr(3), "3.0");
  EXPECT_EQ(FloatRepr(-0.0), "-0.0");
  EXPECT_EQ(FloatRepr(1e-5), "1e-05");
  EXPECT_EQ(FloatRepr(0.0001), "0.0001");
  EXPECT_EQ(FloatRepr(1e15), "1000000000000000.0");
  EXPECT_EQ(FloatRepr(1e16), "1e+16");
  EXPECT_EQ(FloatRepr(1.5e300), "1.5e+300");
  EXPECT_EQ(FloatRepr(5e-324), "5e-324");
  EXPECT_EQ(FloatRepr(0.1 + 0.2), "0.30000000000000004");
  EXPECT_EQ(FloatRepr(NAN), "nan");
  EXPECT_EQ(FloatRepr(-INFINITY), "-inf");
}

TEST(PythonReprTest, IntsOfAnySize) {
  const auto big = [](const std::string& bytes) {
    Node node;
    node.kind = NodeKind::kInt;
    node.text = bytes;
    return IntRepr(node);
  };
  EXPECT_EQ(big(std::string(8, '\0') + "\x01"), "18446744073709551616");
  EXPECT_EQ(big(std::string(8, '\0') + "\xFF"), "-18446744073709551616");
  EXPECT_EQ(big(std::string(8, '\xFF') + std::string(1, '\0')), "18446744073709551615");
  EXPECT_EQ(big(std::string(12, '\0') + "\x01"), "79228162514264337593543950336");
  EXPECT_EQ(big(std::string(64, '\0') + "\x01"), "0x1" + std::string(128, '0'));
  EXPECT_EQ(big(std::string(64, '\0') + "\xFF"), "-0x1" + std::string(128, '0'));
}

TEST(PythonReprTest, PrintsWhatPythonPrints) {
  EXPECT_EQ(Repr([](auto& b) { return b.Str("it's"); }), "\"it's\"");
  EXPECT_EQ(Repr([](auto& b) { return b.Str("a'b\"c"); }), "'a\\'b\"c'");
  EXPECT_EQ(Repr([](auto& b) { return b.Str("\n\t\x01\x7F\\"); }), "'\\n\\t\\x01\\x7f\\\\'");
  EXPECT_EQ(Repr([](auto& b) { return b.Str("\xC3\xA9\xED\xA0\x80\xF0\x9F\x98\x80"); }),
            "'\xC3\xA9\\ud800\xF0\x9F\x98\x80'");
  EXPECT_EQ(Repr([](auto& b) { return b.Bytes(std::string("a\0\xFF", 3)); }), "b'a\\x00\\xff'");
  EXPECT_EQ(Repr([](auto& b) { return b.Text(NodeKind::kByteArray, "x"); }), "bytearray(b'x')");
  EXPECT_EQ(Repr([](auto& b) { return b.Complex(0, 1); }), "1j");
  EXPECT_EQ(Repr([](auto& b) { return b.Complex(1.5, -2); }), "(1.5-2j)");
  EXPECT_EQ(Repr([](auto& b) { return b.Tuple({b.Int(1)}); }), "(1,)");
  EXPECT_EQ(Repr([](auto& b) { return b.Tuple({}); }), "()");
  EXPECT_EQ(Repr([](auto& b) { return b.List({b.None(), b.Bool(false), b.List({})}); }), "[None, False, []]");
  EXPECT_EQ(Repr([](auto& b) { return b.Set({}); }), "set()");
  EXPECT_EQ(Repr([](auto& b) { return b.Set({b.Int(2)}); }), "{2}");
  EXPECT_EQ(Repr([](auto& b) {
              return b.Dict({{b.Str("lr"), b.Float(0.1)}, {b.Int(1), b.None()}});
            }),
            "{'lr': 0.1, 1: None}");
  EXPECT_EQ(Repr([](auto& b) { return b.Size({2, 3}); }), "torch.Size([2, 3])");
  EXPECT_EQ(Repr([](auto& b) { return b.Text(NodeKind::kDtype, "float16"); }), "torch.float16");
  EXPECT_EQ(Repr([](auto& b) { return b.Text(NodeKind::kDevice, "cuda:1"); }), "device(type='cuda', index=1)");
  EXPECT_EQ(Repr([](auto& b) { return b.Text(NodeKind::kDevice, "cpu"); }), "device(type='cpu')");
  EXPECT_EQ(Repr([](auto& b) { return b.Tensor(DType::kFloat32, {1}); }), "<tensor>");
}

TEST(PythonReprTest, IsCutBetweenCharacters) {
  EXPECT_EQ(Repr([](auto& b) { return b.Str("abcdefghij"); }, 8), "'abcd...");
  EXPECT_EQ(Repr([](auto& b) { return b.Str("abc\xC3\xA9\xC3\xA9\xC3\xA9"); }, 8), "'abc...");
  EXPECT_EQ(Repr([](auto& b) { return b.Int(12345); }, 5), "12345");
  EXPECT_EQ(Repr([](auto& b) { return b.Int(12345); }, 2), "..");
}

TEST(PythonReprTest, NestingWithoutEndIsCutToo) {
  const std::string text = Repr(
      [](auto& b) {
        NodeIndex bomb = b.Int(1);
        for (int i = 0; i < 100'000; ++i) bomb = b.List({bomb, bomb});
        return bomb;
      },
      120);
  EXPECT_EQ(text, std::string(117, '[') + "...");
}

}  // namespace
}  // namespace sconce::format
