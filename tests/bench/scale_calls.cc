#include "tests/bench/scale_calls.h"

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace sconce {
namespace {

constexpr int32_t kVersionsPerPage = 25;
constexpr int32_t kRunsPerPage = 5;     // the small store has ten
constexpr int64_t kLargestPage = 1000;  // for getting to the middle

class Picker {
 public:
  explicit Picker(const ScaleStore& store) : store_(store) {}
  int64_t Run() { return static_cast<int64_t>(random_() % static_cast<uint64_t>(store_.runs)); }
  int64_t VersionOf(int64_t run) {
    return 1 + static_cast<int64_t>(random_() % static_cast<uint64_t>(store_.VersionsOf(run)));
  }

 private:
  const ScaleStore& store_;
  std::mt19937_64 random_{42};
};

class Rpcs {
 public:
  Rpcs(const ScaleStore& store, client::Client& client) : store_(store), client_(client), picker_(store) {
    constexpr int64_t kMiddles = 200;
    for (int64_t i = 0; i < kMiddles; ++i) {
      const int64_t run = i * store.runs / kMiddles;
      const auto size = std::min(kLargestPage, store.VersionsOf(run) / 2);
      middles_.emplace_back(run, List(run, "", static_cast<int32_t>(size)));
    }
    for (int64_t left = store.runs / 2; left > 0; left -= std::min(left, kLargestPage)) {
      middle_of_runs_ = ListRuns(middle_of_runs_, static_cast<int32_t>(std::min(left, kLargestPage)));
    }
  }

  // "" is a number.
  void Get(const std::string& selector) {
    v1::GetCheckpointRequest request;
    const int64_t run = picker_.Run();
    request.set_name(
        absl::StrCat(Parent(run), "/checkpoints/", selector.empty() ? absl::StrCat(picker_.VersionOf(run)) : selector));
    Must(client_.GetCheckpoint(request));
  }
  void ListFirst() { List(picker_.Run(), "", kVersionsPerPage); }
  void ListMiddle() {
    const auto& [run, token] = middles_[next_++ % middles_.size()];
    List(run, token, kVersionsPerPage);
  }
  void ListRunsFirst() { ListRuns("", kRunsPerPage); }
  void ListRunsMiddle() { ListRuns(middle_of_runs_, kRunsPerPage); }

 private:
  std::string Parent(int64_t run) const { return absl::StrCat("projects/default/runs/", store_.RunName(run)); }
  std::string List(int64_t run, const std::string& token, int32_t size) {
    v1::ListCheckpointsRequest request;
    request.set_parent(Parent(run));
    request.set_page_size(size);
    request.set_page_token(token);
    return Must(client_.ListCheckpoints(request)).next_page_token();
  }
  std::string ListRuns(const std::string& token, int32_t size) {
    v1::ListRunsRequest request;
    request.set_page_size(size);
    request.set_page_token(token);
    return Must(client_.ListRuns(request)).next_page_token();
  }

  const ScaleStore& store_;
  client::Client& client_;
  Picker picker_;
  std::vector<std::pair<int64_t, std::string>> middles_;  // a run, and the token of the page in its middle
  std::string middle_of_runs_;
  size_t next_ = 0;
};

class Calls {
 public:
  Calls(const ScaleStore& store, repository::Repository& repository)
      : store_(store), repository_(repository), picker_(store) {
    for (int64_t left = store.runs / 2; left > 0; left -= std::min(left, kLargestPage)) {
      middle_of_runs_ = ListRuns(middle_of_runs_, std::min(left, kLargestPage));
    }
  }

  void Get(const std::string& selector) {
    const int64_t run = picker_.Run();
    Must(repository_.GetCheckpoint({Name(run), selector.empty() ? absl::StrCat(picker_.VersionOf(run)) : selector}));
  }
  void ListFirst() { Must(repository_.ListCheckpoints(Name(picker_.Run()), "", kVersionsPerPage)); }
  void ListMiddle() {
    const int64_t run = picker_.Run();
    Must(repository_.ListCheckpoints(Name(run), absl::StrCat(store_.VersionsOf(run) / 2), kVersionsPerPage));
  }
  void ListRunsFirst() { ListRuns("", kRunsPerPage); }
  void ListRunsMiddle() { ListRuns(middle_of_runs_, kRunsPerPage); }

 private:
  repository::RunName Name(int64_t run) const { return {"default", store_.RunName(run)}; }
  std::string ListRuns(const std::string& start, int64_t size) {
    return Must(repository_.ListRuns("", start, size)).next;
  }

  const ScaleStore& store_;
  repository::Repository& repository_;
  Picker picker_;
  std::string middle_of_runs_;
};

template <typename Of>
ScaleCalls CallsOf(std::shared_ptr<Of> of) {
  return {[of] { of->Get(""); },         [of] { of->Get("latest"); }, [of] { of->Get("best"); },
          [of] { of->ListFirst(); },     [of] { of->ListMiddle(); },  [of] { of->ListRunsFirst(); },
          [of] { of->ListRunsMiddle(); }};
}

}  // namespace

ScaleCalls RpcCalls(const ScaleStore& store, client::Client& client) {
  return CallsOf(std::make_shared<Rpcs>(store, client));
}

ScaleCalls RepositoryCalls(const ScaleStore& store, repository::Repository& repository) {
  return CallsOf(std::make_shared<Calls>(store, repository));
}

}  // namespace sconce
