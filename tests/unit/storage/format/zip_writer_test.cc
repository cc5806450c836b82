#include "storage/format/zip_writer.h"

#include <gtest/gtest.h>

#include "storage/format/zip_format.h"
#include "storage/format/zip_reader.h"
#include "tests/support/status_matchers.h"
#include "tests/support/torch_files.h"

namespace sconce::format {
namespace {

TEST(ZipPlanTest, SizeAndOffsetsAreKnownBeforehand) {
  ZipPlan plan;
  for (const char* name : {"a/1", "a/22", "a/333"}) plan.Add(name, 100);
  const std::string zip =
      MakeZip({{"a/1", std::string(100, '1')}, {"a/22", std::string(100, '2')}, {"a/333", std::string(100, '3')}});
  EXPECT_EQ(plan.size_bytes(), zip.size());
  for (size_t i = 0; i < plan.record_count(); ++i) {
    EXPECT_EQ(plan.data_offset(i) % ZipPlan::kAlignment, 0u);
    EXPECT_EQ(zip[plan.data_offset(i)], static_cast<char>('1' + i));
  }
}

TEST(ZipPlanTest, EmptyRecordsHaveNoDescriptor) {
  ZipPlan plan;
  plan.Add("a/0", 0);
  EXPECT_EQ(plan.Descriptor(0), "");
  EXPECT_EQ(LoadLittle16(AsBytes(plan.LocalHeader(0)).data() + ZipLocal::kFlags) & kZipFlagDescriptor, 0);
}

TEST(ZipPlanTest, ZipNumbersOfMoreThan32Bits) {
  constexpr uint64_t kLarge = uint64_t{5} << 30;
  ZipPlan plan;
  plan.Add("a/0", kLarge);
  plan.Add("a/1", 10);
  EXPECT_GT(plan.data_offset(1), kLarge);
  EXPECT_EQ(plan.data_offset(1) % ZipPlan::kAlignment, 0u);
  EXPECT_EQ(plan.LocalHeader(0).size(), plan.data_offset(0));
  EXPECT_EQ(plan.Descriptor(0).size(), static_cast<size_t>(ZipDescriptor::kBytes64));
  EXPECT_EQ(plan.Descriptor(1).size(), static_cast<size_t>(ZipDescriptor::kBytes64));  // its offset is large
  const std::string central = plan.CentralHeader(0);
  EXPECT_EQ(LoadLittle32(AsBytes(central).data() + ZipCentral::kSize), 0xffffffffu);
  EXPECT_EQ(LoadLittle64(AsBytes(central).data() + ZipCentral::kBytes + 3 + kZipExtraHeaderBytes), kLarge);
}

TEST(ZipPlanTest, MoreThan65535Records) {
  std::vector<std::pair<std::string, std::string>> records;
  for (int i = 0; i < 70'000; ++i) records.emplace_back("archive/data/" + std::to_string(i), std::to_string(i));
  const std::string zip = MakeZip(records);
  ASSERT_OK_AND_ASSIGN(const ZipReader reader, ZipReader::Open(AsBytes(zip)));
  ASSERT_EQ(reader.records().size(), records.size());
  ASSERT_OK_AND_ASSIGN(const ByteSpan data, ReadRecord(*reader.Find("archive/data/69999")));
  EXPECT_EQ(ToStd(AsText(data)), "69999");
}

}  // namespace
}  // namespace sconce::format
