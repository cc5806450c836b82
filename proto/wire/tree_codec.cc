#include "proto/wire/tree_codec.h"

#include <algorithm>

#include "base/strings.h"

namespace sconce::wire {

v1::Selection ToProto(const format::Selection& selection) {
  v1::Selection proto;
  proto.set_root(selection.root);
  *proto.mutable_include() = {selection.include.begin(), selection.include.end()};
  *proto.mutable_exclude() = {selection.exclude.begin(), selection.exclude.end()};
  return proto;
}

format::Selection FromProto(const v1::Selection& proto) {
  return {
      proto.root(), {proto.include().begin(), proto.include().end()}, {proto.exclude().begin(), proto.exclude().end()}};
}

v1::DeviceMapping ToProto(const format::DeviceMapping& mapping) {
  v1::DeviceMapping proto;
  proto.set_device(mapping.device);
  // The first entry for a tag counts, and insert keeps it.
  for (const auto& [from, to] : mapping.remap) proto.mutable_remap()->insert({from, to});
  for (const auto& rule : mapping.rules) {
    v1::DeviceRule& added = *proto.add_rules();
    added.set_pattern(rule.pattern);
    added.set_device(rule.device);
  }
  *proto.mutable_available() = {mapping.available.begin(), mapping.available.end()};
  proto.set_fallback(mapping.fallback);
  return proto;
}

format::DeviceMapping FromProto(const v1::DeviceMapping& proto) {
  format::DeviceMapping mapping;
  mapping.device = proto.device();
  mapping.remap.assign(proto.remap().begin(), proto.remap().end());
  std::sort(mapping.remap.begin(), mapping.remap.end());
  for (const auto& rule : proto.rules()) mapping.rules.push_back({rule.pattern(), rule.device()});
  mapping.available.assign(proto.available().begin(), proto.available().end());
  mapping.fallback = proto.fallback();
  return mapping;
}

format::DtypeCast FromProto(const v1::DtypeCast& proto) {
  format::DtypeCast cast;
  for (const auto& rule : proto.rules()) cast.rules.push_back({rule.pattern(), rule.dtype()});
  for (const std::string& pattern : proto.patterns()) cast.rules.push_back({pattern, proto.dtype()});
  if (proto.patterns().empty()) cast.dtype = proto.dtype();
  return cast;
}

v1::CastDtype ToProto(const format::CastDtype& change) {
  v1::CastDtype proto;
  proto.set_from(std::string(ToStd(format::DTypeName(change.from))));
  proto.set_to(std::string(ToStd(format::DTypeName(change.to))));
  proto.set_storage_count(change.storages);
  proto.set_size_bytes(change.bytes_before);
  proto.set_cast_size_bytes(change.bytes_after);
  proto.set_first_path(ToValidUtf8(change.first_path));
  return proto;
}

v1::MappedDevice ToProto(const format::MappedDevice& mapped) {
  v1::MappedDevice proto;
  proto.set_from(ToValidUtf8(mapped.from));
  proto.set_to(ToValidUtf8(mapped.to));
  proto.set_fell_back(mapped.fell_back);
  proto.set_storage_count(mapped.storages);
  proto.set_size_bytes(mapped.bytes);
  proto.set_first_path(ToValidUtf8(mapped.first_path));
  return proto;
}

format::MappedDevice FromProto(const v1::MappedDevice& proto) {
  return {proto.from(), proto.to(), proto.fell_back(), proto.storage_count(), proto.size_bytes(), proto.first_path()};
}

v1::KeyRules ToProto(const format::KeyRules& rules) {
  v1::KeyRules proto;
  *proto.mutable_strip_prefixes() = {rules.strip_prefixes.begin(), rules.strip_prefixes.end()};
  proto.set_add_prefix(rules.add_prefix);
  for (const format::RenameRule& rename : rules.renames) {
    v1::RenameRule& added = *proto.add_renames();
    added.set_from(rename.from);
    added.set_to(rename.to);
  }
  return proto;
}

format::KeyRules FromProto(const v1::KeyRules& proto) {
  format::KeyRules rules;
  rules.strip_prefixes.assign(proto.strip_prefixes().begin(), proto.strip_prefixes().end());
  rules.add_prefix = proto.add_prefix();
  for (const v1::RenameRule& rename : proto.renames()) rules.renames.push_back({rename.from(), rename.to()});
  return rules;
}

v1::TargetKey ToProto(const format::TargetKey& key) {
  v1::TargetKey proto;
  proto.set_key(key.key);
  *proto.mutable_shape() = {key.shape.begin(), key.shape.end()};
  proto.set_dtype(key.dtype);
  return proto;
}

format::TargetKey FromProto(const v1::TargetKey& proto) {
  return {proto.key(), {proto.shape().begin(), proto.shape().end()}, proto.dtype()};
}

v1::TreeEntry ToProto(const format::Entry& entry) {
  v1::TreeEntry proto;
  proto.set_path(ToValidUtf8(entry.path));
  proto.set_type(entry.type);
  proto.set_dtype(ToValidUtf8(entry.dtype));
  *proto.mutable_shape() = {entry.shape.begin(), entry.shape.end()};
  *proto.mutable_stride() = {entry.stride.begin(), entry.stride.end()};
  proto.set_storage_offset(entry.offset);
  proto.set_device(ToValidUtf8(entry.device));
  proto.set_size_bytes(entry.bytes);
  proto.set_requires_grad(entry.requires_grad);
  proto.set_value(ToValidUtf8(entry.value));
  if (entry.storage != format::kNoIndex) proto.set_storage(static_cast<int64_t>(entry.storage));
  proto.set_shares_storage(entry.shares_storage);
  proto.set_child_count(entry.children);
  return proto;
}

v1::TreeTotals ToProto(const format::Totals& totals) {
  v1::TreeTotals proto;
  proto.set_tensor_count(totals.tensors);
  proto.set_element_count(totals.parameters_elements);
  proto.set_scalar_count(totals.scalars);
  proto.set_tensor_bytes(totals.tensor_bytes);
  proto.set_storage_count(totals.storages);
  proto.set_storage_bytes(totals.storage_bytes);
  return proto;
}

}  // namespace sconce::wire
