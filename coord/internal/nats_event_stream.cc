#include "coord/internal/nats_event_stream.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kv/internal/nats_api.h"
#include "nlohmann/json.hpp"

namespace coord::internal {
namespace {

using Json = nlohmann::json;

// Of the server's API.
constexpr int kNoSuchStream = 10059;
constexpr int kNameInUse = 10058;
constexpr int kNoMessage = 10037;
constexpr int kNoPeers = 10005;  // also of a cluster that is just starting

constexpr char kUnreadable[] = "the answer of the NATS server is none of JetStream: find out who else answers there";

absl::Status Unreadable() { return absl::UnavailableError(kUnreadable); }

// A foreign error, with its own number and words.
absl::Status FromError(const Json& error) {
  const int code = error.value("code", 0);
  const int number = error.value("err_code", 0);
  const std::string text =
      absl::StrCat("JetStream says: ", error.value("description", "no reason"), " (", code, "/", number, ")");
  if (number == kNoSuchStream || number == kNoMessage) return absl::NotFoundError(text);
  if (number == kNameInUse) return absl::AlreadyExistsError(text);
  if (number == kNoPeers) return absl::UnavailableError(text);
  if (code == 409) return absl::AbortedError(text);
  // What the server calls the caller's fault stays wrong; all else may pass, and so do its limits on requests (429).
  if (code != 429 && code >= 400 && code < 500) return absl::FailedPreconditionError(text);
  return absl::UnavailableError(text);
}

absl::StatusOr<Json> Parse(std::string_view text) try {
  Json json = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return Unreadable();
  const auto error = json.find("error");
  if (error == json.end()) return json;
  return error->is_object() ? FromError(*error) : Unreadable();
} catch (const Json::exception&) {  // a field of another type than it should have
  return Unreadable();
}

// How long the server remembers message ids, in memory. Repeats come within seconds, and subscribers drop them anyway.
int64_t DuplicateWindow(absl::Duration keep_for) {
  return absl::ToInt64Nanoseconds(std::min(keep_for, absl::Seconds(10)));
}

Json Wanted(const NatsEventStreamConfig& config) {
  return {
      {"name", "COORD_" + config.space},
      {"subjects", {"coord." + config.space + ".r.>"}},
      {"retention", "limits"},
      {"max_consumers", -1},
      {"max_msgs", -1},
      {"max_msgs_per_subject", -1},
      {"max_bytes", config.keep_bytes},
      {"max_age", absl::ToInt64Nanoseconds(config.keep_for)},
      {"max_msg_size", -1},
      {"storage", config.file_storage ? "file" : "memory"},
      {"discard", "old"},
      {"num_replicas", config.replicas},
  };
}

// As people write it.
std::string Show(const std::string& name, const Json& value) {
  if (name == "max_age" && value.is_number_integer())
    return absl::FormatDuration(absl::Nanoseconds(value.get<int64_t>()));
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

absl::Status Compare(const Json& found, const NatsEventStreamConfig& config) {
  const Json wanted = Wanted(config);
  std::vector<std::string> differences;
  for (const auto& [name, want] : wanted.items()) {
    const Json have = found.value(name, Json());
    if (have != want) {
      differences.push_back(absl::StrCat(name, " is ", Show(name, have), " and should be ", Show(name, want)));
    }
  }
  for (const char* name : {"mirror", "sources", "sealed", "no_ack"}) {
    const Json have = found.value(name, Json());
    if (!have.is_null() && have != false) differences.push_back(absl::StrCat(name, " is set and should not be"));
  }
  if (differences.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("the stream COORD_", config.space, " exists with other settings: ", absl::StrJoin(differences, "; "),
                   ". Give all copies the same options, use another space, or change the stream"));
}

}  // namespace

absl::Status ParseNatsAck(std::string_view answer) {
  const absl::StatusOr<Json> json = Parse(answer);
  const absl::Status& status = json.status();
  // A conflict may be with one's own earlier attempt, still under way; and a leader that says that it failed may have
  // handed the message to its replicas.
  if (absl::IsFailedPrecondition(status)) return status;
  if (json.ok()) {
    const auto sequence = json->find("seq");
    if (sequence != json->end() && sequence->is_number_unsigned() && *sequence != 0) return absl::OkStatus();
  }
  return absl::UnknownError(status.ok() ? kUnreadable : std::string(status.message()));
}

absl::StatusOr<std::string> ParseNatsAnswer(std::string_view answer) {
  const absl::StatusOr<Json> json = Parse(answer);
  if (!json.ok()) return json.status();
  return std::string(answer);
}

absl::StatusOr<uint64_t> ParseNatsStoredSequence(std::string_view response) try {
  const absl::StatusOr<Json> json = Parse(response);
  if (absl::IsNotFound(json.status())) return 0;
  if (!json.ok()) return json.status();
  return json->at("message").at("seq").get<uint64_t>();
} catch (const Json::exception&) {
  return Unreadable();
}

absl::StatusOr<NatsEventStreamState> ParseNatsStream(std::string_view response,
                                                     const NatsEventStreamConfig& config) try {
  const absl::StatusOr<Json> json = Parse(response);
  if (!json.ok()) return json.status();
  if (absl::Status status = Compare(json->at("config"), config); !status.ok()) return status;
  const Json& state = json->at("state");
  NatsEventStreamState result;
  result.incarnation =
      kv::internal::IncarnationOf(json->at("config").value("description", ""), json->at("created").get<std::string>());
  result.last = state.at("last_seq").get<uint64_t>();
  const auto messages = state.at("messages").get<uint64_t>();
  result.first = messages == 0 ? result.last + 1 : state.at("first_seq").get<uint64_t>();
  result.mean = messages == 0 ? 0 : state.value("bytes", uint64_t{0}) / messages;
  return result;
} catch (const Json::exception&) {
  return Unreadable();
}

NatsEventStream::NatsEventStream(std::shared_ptr<kv::NatsConnection> connection, NatsEventStreamConfig config)
    : connection_(std::move(connection)), config_(std::move(config)), name_("COORD_" + config_.space) {}

std::string NatsEventStream::Config() const {
  Json config = Wanted(config_);
  config["description"] = kv::internal::NewStreamDescription();
  config["duplicate_window"] = DuplicateWindow(config_.keep_for);
  return config.dump();
}

absl::StatusOr<NatsEventStreamState> NatsEventStream::Call(const char* api, const std::string& request,
                                                           absl::Time deadline) const {
  const absl::StatusOr<kv::NatsMessage> answer =
      connection_->Request(absl::StrCat("$JS.API.STREAM.", api, ".", name_), request, {}, deadline);
  if (absl::IsUnavailable(answer.status()) && connection_->state() == kv::NatsState::kConnected) {
    return absl::UnavailableError(absl::StrCat(
        "JetStream does not answer, which reliable events need: turn it on, or wait until it has a leader (",
        std::string(answer.status().message()), ")"));
  }
  if (!answer.ok()) return answer.status();
  return ParseNatsStream(answer->data(), config_);
}

absl::StatusOr<uint64_t> NatsEventStream::LastOn(const std::string& subject, absl::Time deadline) const {
  const absl::StatusOr<kv::NatsMessage> answer = connection_->Request(
      absl::StrCat("$JS.API.STREAM.MSG.GET.", name_), Json{{"last_by_subj", subject}}.dump(), {}, deadline);
  if (!answer.ok()) return answer.status();
  return ParseNatsStoredSequence(answer->data());
}

absl::StatusOr<NatsEventStreamState> NatsEventStream::Ensure(absl::Time deadline) const {
  absl::StatusOr<NatsEventStreamState> state = Call("INFO", "", deadline);
  // Twice: somebody else may make it, or remove it, in between.
  for (int i = 0; i < 2 && absl::IsNotFound(state.status()); ++i) {
    state = Call("CREATE", Config(), deadline);
    // Of two that make it at a time one may be told that it exists, or that its subjects are taken: by itself.
    const bool refused = absl::IsFailedPrecondition(state.status());
    if (!refused && state.status().code() != absl::StatusCode::kAlreadyExists) continue;
    const absl::StatusOr<NatsEventStreamState> present = Call("INFO", "", deadline);
    if (!refused || !absl::IsNotFound(present.status())) state = present;
  }
  if (absl::IsNotFound(state.status())) return absl::UnavailableError(std::string(state.status().message()));
  return state;
}

}  // namespace coord::internal
