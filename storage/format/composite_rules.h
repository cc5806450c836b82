#ifndef SCONCE_STORAGE_FORMAT_COMPOSITE_RULES_H_
#define SCONCE_STORAGE_FORMAT_COMPOSITE_RULES_H_

#include "absl/strings/string_view.h"
#include "storage/format/manifest.h"

namespace sconce::format {

// A part of Validate: what is wrong with the children of a node that is made of parts with fixed roles (arrays, and all
// tensors but the strided one), or "" when nothing is. Requires that this node's references and all of its children
// have been found good.
absl::string_view ProblemOfComposite(const Manifest& manifest, NodeIndex node);

}  // namespace sconce::format

#endif  // SCONCE_STORAGE_FORMAT_COMPOSITE_RULES_H_
