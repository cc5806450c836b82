#ifndef SCONCE_BASE_UNIQUE_FD_H_
#define SCONCE_BASE_UNIQUE_FD_H_

#include <unistd.h>

#include <utility>

namespace sconce {

// Owns a file descriptor: closes it when destroyed. -1 owns nothing.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.Release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) Reset(other.Release());
    return *this;
  }
  ~UniqueFd() { Reset(-1); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int Release() { return std::exchange(fd_, -1); }
  void Reset(int fd = -1) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

}  // namespace sconce

#endif  // SCONCE_BASE_UNIQUE_FD_H_
