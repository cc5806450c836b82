#ifndef SCONCE_PROTO_WIRE_TREE_CODEC_H_
#define SCONCE_PROTO_WIRE_TREE_CODEC_H_

#include "sconce/v1/manifest.pb.h"
#include "storage/format/cast.h"
#include "storage/format/device_map.h"
#include "storage/format/entries.h"
#include "storage/format/load_plan.h"
#include "storage/format/selection.h"

// The messages of manifest.proto and the structs of storage/format. Nothing is checked here: format does that when the
// values are used.
namespace sconce::wire {

v1::Selection ToProto(const format::Selection& selection);
format::Selection FromProto(const v1::Selection& selection);

// `remap` becomes ordered by tag: a map on the wire has no order and no repeated keys.
v1::DeviceMapping ToProto(const format::DeviceMapping& mapping);
format::DeviceMapping FromProto(const v1::DeviceMapping& mapping);

// `patterns` become rules for `dtype` after the others. That a pattern needs a dtype is not checked here.
format::DtypeCast FromProto(const v1::DtypeCast& cast);
v1::CastDtype ToProto(const format::CastDtype& change);

v1::MappedDevice ToProto(const format::MappedDevice& mapped);
format::MappedDevice FromProto(const v1::MappedDevice& mapped);

v1::KeyRules ToProto(const format::KeyRules& rules);
format::KeyRules FromProto(const v1::KeyRules& rules);

v1::TargetKey ToProto(const format::TargetKey& key);
format::TargetKey FromProto(const v1::TargetKey& key);

v1::TreeEntry ToProto(const format::Entry& entry);
v1::TreeTotals ToProto(const format::Totals& totals);

}  // namespace sconce::wire

#endif  // SCONCE_PROTO_WIRE_TREE_CODEC_H_
