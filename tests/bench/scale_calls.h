#ifndef SCONCE_TESTS_BENCH_SCALE_CALLS_H_
#define SCONCE_TESTS_BENCH_SCALE_CALLS_H_

#include <array>
#include <functional>

#include "client/cpp/client.h"
#include "storage/repository/repository.h"
#include "tests/bench/scale_store.h"

namespace sconce {

// What is asked of a store; every call picks its run and its version anew, each as likely as another. A page has as
// many items in a store of any size.
inline constexpr size_t kScaleCalls = 7;
inline constexpr std::array<const char*, kScaleCalls> kScaleCallNames = {"get by number",
                                                                         "latest",
                                                                         "best",
                                                                         "list, first page",
                                                                         "list, middle page",
                                                                         "list of runs, first page",
                                                                         "list of runs, middle page"};
using ScaleCalls = std::array<std::function<void()>, kScaleCalls>;

// As RPCs of the client, and as calls of the repository itself. Both arguments outlive the result. A call that fails
// ends the program.
ScaleCalls RpcCalls(const ScaleStore& store, client::Client& client);
ScaleCalls RepositoryCalls(const ScaleStore& store, repository::Repository& repository);

}  // namespace sconce

#endif  // SCONCE_TESTS_BENCH_SCALE_CALLS_H_
