#include "storage/format/device.h"

#include <algorithm>
#include <array>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/error.h"
#include "base/strings.h"

namespace sconce::format {
namespace {

// As PyTorch 2 lists them in its own message ("ort" of 1.13 became "maia", and is accepted too).
constexpr std::array<const char*, 20> kDeviceTypes = {
    "cpu",  "cuda", "ipu", "xpu",  "mkldnn", "opengl", "opencl", "ideep", "hip",  "ve",
    "fpga", "maia", "xla", "lazy", "vulkan", "mps",    "meta",   "hpu",   "mtia", "privateuseone"};

constexpr int kMaxDeviceIndex = 127;  // PyTorch keeps it in an int8

absl::string_view TypeOf(absl::string_view device) {
  return device.substr(0, device.find(':'));
}

absl::string_view IndexOf(absl::string_view device) {
  const size_t colon = device.find(':');
  return colon == absl::string_view::npos ? "" : device.substr(colon + 1);
}

}  // namespace

absl::Status ValidateDevice(absl::string_view device) {
  const auto invalid = [&](absl::string_view message) {
    return MakeError(Reason::DEVICE_INVALID, message, {{"device", absl::CHexEscape(device.substr(0, 100))}});
  };
  if (device.empty()) return invalid("Device string must not be empty");
  const absl::string_view type = TypeOf(device);
  if (std::find(kDeviceTypes.begin(), kDeviceTypes.end(), type) == kDeviceTypes.end() && type != "ort") {
    return invalid(absl::StrCat("Expected one of ", absl::StrJoin(kDeviceTypes, ", "),
                                " device type at start of device string: ", absl::CHexEscape(type.substr(0, 100))));
  }
  if (type.size() == device.size()) return absl::OkStatus();
  const absl::string_view index = IndexOf(device);
  const bool digits = !index.empty() && index.size() <= 3 && std::all_of(index.begin(), index.end(), [](char c) {
    return absl::ascii_isdigit(static_cast<unsigned char>(c));
  });
  int number = 0;
  if (!digits || (index.size() > 1 && index[0] == '0') || !absl::SimpleAtoi(index, &number) ||
      number > kMaxDeviceIndex) {
    return invalid(absl::StrCat("Invalid device string: '", absl::CHexEscape(device.substr(0, 100)), "'"));
  }
  return absl::OkStatus();
}

AvailableDevices::AvailableDevices(absl::Span<const std::string> devices) : devices_(devices.begin(), devices.end()) {
  for (const std::string& device : devices) types_.insert(std::string(TypeOf(device)));
}

bool AvailableDevices::Has(absl::string_view device) const {
  const absl::string_view type = TypeOf(device);
  if (devices_.empty() || type == "cpu") return true;
  if (IndexOf(device).empty()) return types_.contains(type);
  return devices_.contains(device) || devices_.contains(type);
}

absl::Status AvailableDevices::Unavailable(absl::string_view device, absl::string_view path) const {
  const absl::string_view type = TypeOf(device);
  std::string message;
  if (type == "cuda" && !types_.contains("cuda")) {
    message =
        "Attempting to deserialize object on a CUDA device but torch.cuda.is_available() is False. If you are running "
        "on "
        "a CPU-only machine, please use torch.load with map_location=torch.device('cpu') to map your storages to the "
        "CPU.";
  } else if (type == "cuda") {
    const auto count =
        std::count_if(devices_.begin(), devices_.end(), [&](const auto& d) { return TypeOf(d) == type; });
    message = absl::StrCat("Attempting to deserialize object on CUDA device ", IndexOf(device),
                           " but torch.cuda.device_count() is ", count,
                           ". Please use torch.load with map_location to map your storages to an existing device.");
  } else {
    message = absl::StrCat("don't know how to restore data location of torch.storage.UntypedStorage (tagged with ",
                           device, ")");
  }
  absl::StrAppend(&message, " (", device, " is wanted at ", Quoted(path),
                  "; map it to a device that is available, or give a fallback)");
  return MakeError(Reason::DEVICE_UNAVAILABLE, message,
                   {{"device", std::string(device)}, {"path", std::string(path.substr(0, 200))}});
}

}  // namespace sconce::format
