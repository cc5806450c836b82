#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "storage/format/float_convert.h"

// Conversions between floating-point dtypes beside memcpy of the same bytes, from a source of 64 MiB (larger than the
// caches), piece by piece as an answer is made. Bytes per second are those read and written together.
namespace sconce::format {
namespace {

constexpr size_t kSourceBytes = size_t{64} << 20;
constexpr size_t kPieceBytes = size_t{64} << 10;  // of the source; what CastBytes converts at once

std::vector<uint8_t> Source() {
  std::vector<uint8_t> bytes(kSourceBytes);
  uint64_t word = 1;
  for (size_t i = 0; i + 8 <= bytes.size(); i += 8) {
    word = word * 6364136223846793005u + 1442695040888963407u;
    std::memcpy(&bytes[i], &word, 8);
  }
  return bytes;
}

void Convert(benchmark::State& state, DType from, DType to, decltype(&ConvertFloats) convert) {
  const std::vector<uint8_t> in = Source();
  const auto in_size = static_cast<size_t>(ElementBytes(from)), out_size = static_cast<size_t>(ElementBytes(to));
  std::vector<uint8_t> out(in.size() / in_size * out_size);
  const size_t count = kPieceBytes / in_size;
  for (auto _ : state) {
    for (size_t at = 0, done = 0; at < in.size(); at += kPieceBytes, done += count * out_size) {
      convert(from, to, in.data() + at, count, out.data() + done);
    }
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(in.size() + out.size()));
}

void Copy(benchmark::State& state) {
  const std::vector<uint8_t> in = Source();
  std::vector<uint8_t> out(in.size());
  for (auto _ : state) {
    for (size_t at = 0; at < in.size(); at += kPieceBytes) std::memcpy(out.data() + at, in.data() + at, kPieceBytes);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(2 * in.size()));
}

}  // namespace
}  // namespace sconce::format

int main(int argc, char** argv) {
  using sconce::format::DType;
  benchmark::Initialize(&argc, argv);
  benchmark::RegisterBenchmark("memcpy", sconce::format::Copy);
  for (const DType from : {DType::kFloat32, DType::kFloat64, DType::kFloat16, DType::kBFloat16, DType::kFloat8E4M3FN,
                           DType::kFloat8E5M2, DType::kFloat8E4M3FNUZ, DType::kFloat8E5M2FNUZ}) {
    for (const DType to : {DType::kFloat16, DType::kBFloat16, DType::kFloat32, DType::kFloat64, DType::kFloat8E4M3FN,
                           DType::kFloat8E5M2}) {
      if (from == to) continue;
      const std::string name = absl::StrCat(sconce::format::DTypeName(from), "->", sconce::format::DTypeName(to));
      benchmark::RegisterBenchmark(name.c_str(), sconce::format::Convert, from, to, sconce::format::ConvertFloats);
      if (from == DType::kFloat32) {
        benchmark::RegisterBenchmark((name + "/portable").c_str(), sconce::format::Convert, from, to,
                                     sconce::format::ConvertFloatsPortably);
      }
    }
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
