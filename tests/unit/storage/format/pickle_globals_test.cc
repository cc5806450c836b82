#include "storage/format/pickle_globals.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "base/strings.h"

namespace sconce::format {
namespace {

TEST(PickleGlobalsTest, EveryDtypeIsKnownByItsName) {
#define SCONCE_CHECK_DTYPE_(enumerator, disk_number, text, bits, kind)  \
  {                                                                     \
    const auto global = FindPickleGlobal("torch", text);                \
    ASSERT_TRUE(global.has_value()) << text;                            \
    EXPECT_EQ(global->tag, PickleTag::kDtype);                          \
    EXPECT_EQ(global->number, disk_number);                             \
    EXPECT_EQ(PickleGlobalName(*global), std::string("torch.") + text); \
  }
  SCONCE_DTYPES(SCONCE_CHECK_DTYPE_)
#undef SCONCE_CHECK_DTYPE_
  EXPECT_FALSE(FindPickleGlobal("torch", "torch.float32").has_value());
  EXPECT_FALSE(FindPickleGlobal("numpy", "float32").has_value());
}

TEST(PickleGlobalsTest, StorageClassesCarryTheirDtype) {
  const auto half = FindPickleGlobal("torch", "HalfStorage");
  ASSERT_TRUE(half.has_value());
  EXPECT_EQ(half->tag, PickleTag::kStorageType);
  EXPECT_EQ(half->number, static_cast<uint8_t>(DType::kFloat16));
  EXPECT_EQ(ToStd(StorageTypeName(DType::kFloat16)), "HalfStorage");
  EXPECT_EQ(ToStd(StorageTypeName(DType::kFloat8E5M2)), "");
  EXPECT_EQ(FindPickleGlobal("torch.storage", "UntypedStorage")->number, 0);
  EXPECT_EQ(PickleGlobalName(*FindPickleGlobal("torch", "UntypedStorage")), "torch.storage.UntypedStorage");
}

TEST(PickleGlobalsTest, ModulesThatWereRenamedMeanTheSame) {
  EXPECT_EQ(FindPickleGlobal("numpy.core.multiarray", "_reconstruct")->tag, PickleTag::kNumpyReconstruct);
  EXPECT_EQ(FindPickleGlobal("numpy._core.multiarray", "_reconstruct")->tag, PickleTag::kNumpyReconstruct);
  EXPECT_EQ(FindPickleGlobal("torch._utils", "_rebuild_sparse_csr_tensor")->tag, PickleTag::kRebuildSparse);
}

TEST(PickleGlobalsTest, TensorClassesOfOldReleasesKeepTheirNames) {
  const auto old = FindPickleGlobal("torch.cuda.sparse", "LongTensor");
  ASSERT_TRUE(old.has_value());
  EXPECT_EQ(old->tag, PickleTag::kOldTensorClass);
  EXPECT_EQ(PickleGlobalName(*old), "torch.cuda.sparse.LongTensor");
  EXPECT_EQ(PickleGlobalName(*FindPickleGlobal("torch", "FloatTensor")), "torch.FloatTensor");
  EXPECT_EQ(FindPickleGlobal("torch", "Tensor")->tag, PickleTag::kTensorClass);
}

TEST(PickleGlobalsTest, BuiltinsHaveTheNamesOfBothPythons) {
  EXPECT_EQ(FindPickleGlobal("__builtin__", "set")->tag, PickleTag::kSet);
  EXPECT_EQ(FindPickleGlobal("builtins", "set")->tag, PickleTag::kSet);
}

TEST(PickleGlobalsTest, NothingThatRunsIsKnown) {
  for (const auto& [module, name] : {std::pair{"os", "system"},
                                     {"builtins", "eval"},
                                     {"builtins", "getattr"},
                                     {"torch", "load"},
                                     {"torch.jit", "load"},
                                     {"collections", "namedtuple"},
                                     {"", ""},
                                     {"torch", "nn.Module"},
                                     {"collections OrderedDict", ""}}) {
    EXPECT_FALSE(FindPickleGlobal(module, name).has_value()) << module << "." << name;
  }
}

TEST(PickleGlobalsTest, OnlyFunctionsAndClassesAreCallable) {
  EXPECT_TRUE(IsCallable(*FindPickleGlobal("collections", "OrderedDict")));
  EXPECT_TRUE(IsCallable(*FindPickleGlobal("numpy", "dtype")));
  EXPECT_FALSE(IsCallable(*FindPickleGlobal("numpy", "ndarray")));
  EXPECT_FALSE(IsCallable(*FindPickleGlobal("torch", "float32")));
  EXPECT_FALSE(IsCallable(*FindPickleGlobal("torch", "FloatStorage")));
  EXPECT_FALSE(IsCallable(PickleGlobal{}));
}

}  // namespace
}  // namespace sconce::format
