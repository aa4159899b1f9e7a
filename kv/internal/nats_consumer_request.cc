#include "kv/internal/nats_consumer_request.h"

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "kv/internal/nats_api.h"
#include "nlohmann/json.hpp"

namespace kv::internal {
namespace {

using nlohmann::json;

constexpr auto kForgottenAfter = absl::Seconds(30);

// Members; one of another type counts as absent.
uint64_t Number(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_number_unsigned() ? found->get<uint64_t>() : 0;
}

std::string Text(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

}  // namespace

std::string CreateConsumerSubject(const NatsConsumerOptions& options) {
  return absl::StrCat("$JS.API.CONSUMER.CREATE.", options.stream);
}

std::string CreateConsumerRequest(const NatsConsumerOptions& options, const std::string& deliver_subject) {
  json config = {
      {"deliver_subject", deliver_subject},
      {"ack_policy", "none"},
      {"max_deliver", 1},
      {"replay_policy", "instant"},
      {"filter_subject", options.filter.empty() ? ">" : options.filter},
      {"flow_control", true},
      {"idle_heartbeat", absl::ToInt64Nanoseconds(options.heartbeat)},
      {"inactive_threshold", absl::ToInt64Nanoseconds(kForgottenAfter)},
      {"num_replicas", 1},
      {"mem_storage", true},
  };
  if (!options.start) {
    config["deliver_policy"] = "last_per_subject";
  } else if (*options.start <= 1) {
    config["deliver_policy"] = "all";
  } else {
    config["deliver_policy"] = "by_start_sequence";
    config["opt_start_seq"] = *options.start;
  }
  const json request = {{"stream_name", options.stream}, {"config", config}};
  return request.dump(-1, ' ', false, json::error_handler_t::replace);
}

absl::StatusOr<CreatedConsumer> ParseCreatedConsumer(const std::string& stream, std::string_view answer) {
  const std::string what = absl::StrCat("consumer of the stream ", stream);
  const json parsed = json::parse(answer, nullptr, false);
  if (!parsed.is_object()) return absl::InternalError(absl::StrCat("nats: ", what, ": the answer is not JSON"));
  if (const auto error = parsed.find("error"); error != parsed.end() && error->is_object()) {
    return ToStatus({static_cast<int>(Number(*error, "code")), static_cast<int>(Number(*error, "err_code")),
                     Text(*error, "description")},
                    what);
  }
  CreatedConsumer created;
  created.name = Text(parsed, "name");
  if (created.name.empty()) return absl::InternalError(absl::StrCat("nats: ", what, ": the answer has no name"));
  // What was delivered before the answer was written is not pending any more.
  created.pending = Number(parsed, "num_pending");
  if (const auto delivered = parsed.find("delivered"); delivered != parsed.end() && delivered->is_object()) {
    created.pending += Number(*delivered, "consumer_seq");
  }
  return created;
}

std::string DeleteConsumerSubject(const std::string& stream, const std::string& name) {
  return absl::StrCat("$JS.API.CONSUMER.DELETE.", stream, ".", name);
}

}  // namespace kv::internal
