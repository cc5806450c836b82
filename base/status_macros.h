#ifndef SCONCE_BASE_STATUS_MACROS_H_
#define SCONCE_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// The semantics of Abseil's own macros of the same name, which Debian 12's Abseil does not have yet: leaving is a
// rename.

#define SCONCE_STATUS_CONCAT_INNER_(a, b) a##b
#define SCONCE_STATUS_CONCAT_(a, b) SCONCE_STATUS_CONCAT_INNER_(a, b)
#define SCONCE_RETURN_IF_ERROR_IMPL_(status, expr)    \
  do {                                                \
    if (absl::Status status = (expr); !status.ok()) { \
      return status;                                  \
    }                                                 \
  } while (false)

// Returns from the enclosing function with the status of `expr` unless it is OK. (`expr` may hold lambdas that use
// these macros.)
#define SCONCE_RETURN_IF_ERROR(expr) \
  SCONCE_RETURN_IF_ERROR_IMPL_(SCONCE_STATUS_CONCAT_(sconce_status_, __COUNTER__), expr)

#define SCONCE_ASSIGN_OR_RETURN_IMPL_(statusor, lhs, rexpr) \
  auto statusor = (rexpr);                                  \
  if (!statusor.ok()) return std::move(statusor).status();  \
  lhs = std::move(statusor).value()

// Evaluates `rexpr` (a StatusOr), returns its status on failure, else moves its value into `lhs` (which may declare a
// variable).
#define SCONCE_ASSIGN_OR_RETURN(lhs, rexpr) \
  SCONCE_ASSIGN_OR_RETURN_IMPL_(SCONCE_STATUS_CONCAT_(sconce_statusor_, __COUNTER__), lhs, rexpr)

#endif  // SCONCE_BASE_STATUS_MACROS_H_
