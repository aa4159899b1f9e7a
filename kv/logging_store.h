// A Store that reports every call made through it in one line, for diagnosis:
//
//   update "demo/mutex/m" 84 bytes at 17 -> OK, revision 23, in 14us
//   get "demo/cell/c" -> NOT_FOUND: no such key, in 2us
//
// Values are never printed, only their sizes. Keys are.

#ifndef KV_LOGGING_STORE_H_
#define KV_LOGGING_STORE_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kv/store_wrapper.h"

namespace kv {

// Gets one line without a line end. Runs on the calling thread (for events on the store's thread), with several calls
// at once where the store is used by several threads.
using LogFunction = std::function<void(const std::string& line)>;

// Thread-safe if `log` is.
class LoggingStore : public StoreWrapper {
 public:
  LoggingStore(std::shared_ptr<Store> base, LogFunction log);

  absl::StatusOr<Entry> Get(std::string_view key, absl::Time deadline) override;
  WriteResult Create(std::string_view key, std::string_view value, absl::Time deadline) override;
  WriteResult Update(std::string_view key, std::string_view value, Revision expected, absl::Time deadline) override;
  WriteResult Delete(std::string_view key, Revision expected, absl::Time deadline) override;
  WriteResult Put(std::string_view key, std::string_view value, absl::Time deadline) override;
  absl::StatusOr<std::vector<KeyedEntry>> List(std::string_view prefix, absl::Time deadline) override;
  absl::StatusOr<std::unique_ptr<Watch>> WatchPrefix(std::string_view prefix, WatchCallback callback) override;

 private:
  const LogFunction log_;
};

}  // namespace kv

#endif  // KV_LOGGING_STORE_H_
