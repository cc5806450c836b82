#ifndef SCONCE_SERVER_INFERENCE_MEMORY_ROOM_H_
#define SCONCE_SERVER_INFERENCE_MEMORY_ROOM_H_

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace sconce::inference {

// How many more bytes this process and its children may take: what the machine has available, or less where a control
// group (version 2) allows less; pages of files that can be dropped count as free. INT64_MAX when nothing tells.
// `root` is for tests.
int64_t AvailableMemoryBytes(const std::string& root = "");

// What a process holds itself, in bytes: not what lies in files that it maps. 0 when there is no such process.
int64_t OwnMemoryBytes(pid_t pid);

}  // namespace sconce::inference

#endif  // SCONCE_SERVER_INFERENCE_MEMORY_ROOM_H_
