// Shared by the tests of kv.

#ifndef KV_TEST_UTIL_H_
#define KV_TEST_UTIL_H_

#include <gtest/gtest.h>
#include <stdlib.h>

#include <condition_variable>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "kv/store.h"

namespace kv {

inline absl::Time In(absl::Duration duration) { return absl::Now() + duration; }
inline absl::Time Soon() { return In(absl::Seconds(20)); }

// A folder of its own, removed at the end.
class TempDir {
 public:
  TempDir() {
    std::string name = (std::filesystem::temp_directory_path() / "kv-test-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) abort();
    path_ = std::filesystem::canonical(name).string();
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// The events of a watch, to be waited for. Must outlive the watch.
class Recorder {
 public:
  WatchCallback Callback() {
    return [this](const WatchEvent& event) {
      std::lock_guard<std::mutex> lock(mutex_);
      events_.push_back(event);
      changed_.notify_all();
    };
  }

  std::vector<WatchEvent> Events() {
    std::lock_guard<std::mutex> lock(mutex_);
    return events_;
  }

  // Waits until `holds` for the events so far; false after a long time.
  bool Await(const std::function<bool(const std::vector<WatchEvent>&)>& holds) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), [&] { return holds(events_); });
  }
  bool AwaitCount(size_t count) {
    return Await([count](const auto& events) { return events.size() >= count; });
  }
  bool AwaitValue(const std::string& value) {
    return Await([&value](const auto& events) {
      for (const WatchEvent& event : events) {
        if (event.kind == WatchKind::kPut && event.entry.value == value) return true;
      }
      return false;
    });
  }
  bool AwaitKind(WatchKind kind) {
    return Await([kind](const auto& events) {
      for (const WatchEvent& event : events) {
        if (event.kind == kind) return true;
      }
      return false;
    });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<WatchEvent> events_;
};

// "put a=1", "delete a", "synced": events in a form that a test can compare.
inline std::vector<std::string> Texts(const std::vector<WatchEvent>& events) {
  std::vector<std::string> texts;
  for (const WatchEvent& event : events) {
    switch (event.kind) {
      case WatchKind::kPut:
        texts.push_back("put " + event.key + "=" + event.entry.value);
        break;
      case WatchKind::kDelete:
        texts.push_back("delete " + event.key);
        break;
      case WatchKind::kSynced:
        texts.push_back("synced");
        break;
      case WatchKind::kResync:
        texts.push_back("resync");
        break;
      case WatchKind::kEpochChanged:
        texts.push_back("epoch changed");
        break;
    }
  }
  return texts;
}

}  // namespace kv

#endif  // KV_TEST_UTIL_H_
