#include "coord/internal/nats_event_ledger.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "coord/internal/nats_event_stream.h"
#include "kv/internal/nats_api.h"
#include "nlohmann/json.hpp"

namespace coord::internal {

using kv::internal::MutexLock;

namespace {

using Json = nlohmann::json;

constexpr std::string_view kNote = "(cursors in the bucket of ";
constexpr char kMarkKey[] = "bucket/replaced";

}  // namespace

std::string NotedBucket(std::string_view description) {
  const size_t note = description.find(kNote);
  if (note == std::string_view::npos) return "";
  const std::string_view rest = description.substr(note + kNote.size());
  const size_t end = rest.find(')');
  return end == std::string_view::npos ? "" : std::string(rest.substr(0, end));
}

std::string NoteBucket(std::string_view description, std::string_view made) {
  std::string text(description);
  size_t at = text.find(kNote);
  const size_t end = at == std::string::npos ? at : text.find(')', at);
  if (end != std::string::npos) {
    text.erase(at, end + 1 - at);
  } else {
    if (!text.empty()) text += " ";
    at = text.size();
  }
  return text.insert(at, absl::StrCat(std::string(kNote), std::string(made), ")"));
}

NatsEventLedger::NatsEventLedger(std::shared_ptr<Core> core, std::shared_ptr<kv::NatsConnection> connection,
                                 std::string events, std::string bucket)
    : core_(std::move(core)),
      connection_(std::move(connection)),
      events_(std::move(events)),
      bucket_(std::move(bucket)) {}

absl::StatusOr<std::string> NatsEventLedger::Call(const char* api, const std::string& stream,
                                                  const std::string& request, absl::Time deadline) const {
  absl::StatusOr<kv::NatsMessage> answer =
      connection_->Request(absl::StrCat("$JS.API.STREAM.", api, ".", stream), request, {}, deadline);
  if (!answer.ok()) return answer.status();
  return ParseNatsAnswer(answer->data());
}

absl::StatusOr<bool> NatsEventLedger::WasLost(kv::Store& store, absl::Time deadline) try {
  const absl::StatusOr<std::string> info = Call("INFO", bucket_, "", deadline);
  if (!info.ok()) return info.status();
  const Json bucket = Json::parse(*info);
  const std::string made = kv::internal::IncarnationOf(bucket.at("config").value("description", ""),
                                                       bucket.at("created").get<std::string>());
  {
    MutexLock lock(mu_);
    if (made == made_) return lost_;
  }
  absl::StatusOr<bool> lost = Look(store, made, deadline);
  if (!lost.ok()) return lost.status();
  MutexLock lock(mu_);
  made_ = made;
  lost_ = *lost;
  return lost_;
} catch (const Json::exception&) {
  return absl::UnavailableError("the NATS server describes a stream in a way that this library does not know");
}

absl::StatusOr<bool> NatsEventLedger::Look(kv::Store& store, const std::string& made, absl::Time deadline) {
  const absl::StatusOr<std::string> info = Call("INFO", events_, "", deadline);
  if (!info.ok()) return info.status();
  Json config = Json::parse(*info).at("config");
  const std::string description = config.value("description", "");
  const std::string noted = NotedBucket(description);
  if (noted == made) {
    const absl::Status mark = store.Get(kMarkKey, deadline).status();
    if (!mark.ok() && !absl::IsNotFound(mark)) return mark;
    return mark.ok();
  }
  const bool lost = !noted.empty();
  if (lost) {
    // First the mark: whoever finds the bucket noted must find it too.
    const absl::Status mark =
        store.Create(kMarkKey, absl::StrCat("this is ", made, "; the one before was ", noted), deadline).status;
    if (!mark.ok() && mark.code() != absl::StatusCode::kAlreadyExists) return mark;
  }
  config["description"] = NoteBucket(description, made);
  const absl::StatusOr<std::string> updated = Call("UPDATE", events_, config.dump(), deadline);
  if (!updated.ok()) {
    core_->Log(LogLevel::kWarning,
               absl::StrCat("the stream ", events_, " could not note its bucket of cursors, so that a loss of ",
                            bucket_, " may go unnoticed: ", std::string(updated.status().message())));
  }
  return lost;
}

}  // namespace coord::internal
