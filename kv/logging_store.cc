#include "kv/logging_store.h"

#include <chrono>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace kv {
namespace {

using Clock = std::chrono::steady_clock;

std::string Quoted(std::string_view key) {
  return absl::StrCat("\"", absl::Utf8SafeCEscape(absl::string_view(key.data(), key.size())), "\"");
}

std::string Outcome(const absl::Status& status, const std::string& detail, Clock::time_point start) {
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start).count();
  return absl::StrCat(" -> ", status.ok() ? "OK" : status.ToString(), detail, ", in ", micros, "us");
}

std::string Outcome(const WriteResult& result, Clock::time_point start) {
  std::string detail;
  if (result.revision != 0) detail = absl::StrCat(", revision ", result.revision);
  if (result.current.has_value()) absl::StrAppend(&detail, ", now at ", result.current->revision);
  return Outcome(result.status, detail, start);
}

std::string Describe(const WatchEvent& event) {
  switch (event.kind) {
    case WatchKind::kPut:
      return absl::StrCat("put ", Quoted(event.key), " ", event.entry.value.size(), " bytes at ", event.entry.revision);
    case WatchKind::kDelete:
      return absl::StrCat("delete ", Quoted(event.key), " at ", event.entry.revision);
    case WatchKind::kSynced:
      return "synced";
    case WatchKind::kResync:
      return "resync";
    case WatchKind::kEpochChanged:
      return "epoch changed";
  }
  return "unknown";
}

}  // namespace

LoggingStore::LoggingStore(std::shared_ptr<Store> base, LogFunction log)
    : StoreWrapper(std::move(base)), log_(std::move(log)) {}

absl::StatusOr<Entry> LoggingStore::Get(std::string_view key, absl::Time deadline) {
  const auto start = Clock::now();
  absl::StatusOr<Entry> entry = StoreWrapper::Get(key, deadline);
  std::string detail;
  if (entry.ok()) detail = absl::StrCat(", ", entry->value.size(), " bytes at ", entry->revision);
  log_(absl::StrCat("get ", Quoted(key), Outcome(entry.status(), detail, start)));
  return entry;
}

WriteResult LoggingStore::Create(std::string_view key, std::string_view value, absl::Time deadline) {
  const auto start = Clock::now();
  WriteResult result = StoreWrapper::Create(key, value, deadline);
  log_(absl::StrCat("create ", Quoted(key), " ", value.size(), " bytes", Outcome(result, start)));
  return result;
}

WriteResult LoggingStore::Update(std::string_view key, std::string_view value, Revision expected, absl::Time deadline) {
  const auto start = Clock::now();
  WriteResult result = StoreWrapper::Update(key, value, expected, deadline);
  log_(absl::StrCat("update ", Quoted(key), " ", value.size(), " bytes at ", expected, Outcome(result, start)));
  return result;
}

WriteResult LoggingStore::Delete(std::string_view key, Revision expected, absl::Time deadline) {
  const auto start = Clock::now();
  WriteResult result = StoreWrapper::Delete(key, expected, deadline);
  log_(absl::StrCat("delete ", Quoted(key), " at ", expected, Outcome(result, start)));
  return result;
}

WriteResult LoggingStore::Put(std::string_view key, std::string_view value, absl::Time deadline) {
  const auto start = Clock::now();
  WriteResult result = StoreWrapper::Put(key, value, deadline);
  log_(absl::StrCat("put ", Quoted(key), " ", value.size(), " bytes", Outcome(result, start)));
  return result;
}

absl::StatusOr<std::vector<KeyedEntry>> LoggingStore::List(std::string_view prefix, absl::Time deadline) {
  const auto start = Clock::now();
  absl::StatusOr<std::vector<KeyedEntry>> entries = StoreWrapper::List(prefix, deadline);
  std::string detail;
  if (entries.ok()) detail = absl::StrCat(", ", entries->size(), " entries");
  log_(absl::StrCat("list ", Quoted(prefix), Outcome(entries.status(), detail, start)));
  return entries;
}

absl::StatusOr<std::unique_ptr<Watch>> LoggingStore::WatchPrefix(std::string_view prefix, WatchCallback callback) {
  const auto start = Clock::now();
  auto logged = [this, name = Quoted(prefix), callback = std::move(callback)](const WatchEvent& event) {
    log_(absl::StrCat("event ", name, ": ", Describe(event)));
    callback(event);
  };
  absl::StatusOr<std::unique_ptr<Watch>> watch = StoreWrapper::WatchPrefix(prefix, std::move(logged));
  log_(absl::StrCat("watch ", Quoted(prefix), Outcome(watch.status(), "", start)));
  return watch;
}

}  // namespace kv
