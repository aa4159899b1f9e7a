#include "kv/internal/nats_bucket.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "kv/internal/nats_keys.h"
#include "nlohmann/json.hpp"

namespace kv::internal {
namespace {

using nlohmann::json;

constexpr size_t kMaxBucketBytes = 64;

// The server keeps message ids for so long.
constexpr int64_t kDuplicateWindowNanos = 120'000'000'000;

// How long a server that is starting is waited for at most, where nobody answers for JetStream at all.
constexpr auto kStartPatience = std::chrono::seconds(3);

// A request that comes while a cluster has no leader is not answered, also when there is one.
constexpr auto kAttempt = std::chrono::seconds(2);
constexpr auto kRetryPause = std::chrono::milliseconds(100);

// Marks a status that a server gave.
constexpr char kAnswered[] = "coord/nats-answered";

// The settings that the store relies on.
std::vector<std::pair<const char*, json>> Wanted(const NatsStoreOptions& options, const std::string& subjects) {
  return {
      {"subjects", json::array({subjects + ">"})},
      {"retention", "limits"},
      {"storage", options.file_storage ? "file" : "memory"},
      {"num_replicas", options.replicas},
      // One message a key: so much is left of its history, and an update is not refused because of it.
      {"max_msgs_per_subject", 1},
      {"discard", "new"},
      {"discard_new_per_subject", false},
      // Nothing may vanish by itself.
      {"max_age", 0},
      {"max_msgs", -1},
      {"max_msg_size", -1},
      // Markers are removed.
      {"deny_delete", false},
      {"duplicate_window", kDuplicateWindowNanos},
      {"sealed", false},
      {"no_ack", false},
      // Acknowledges before it has written.
      {"persist_mode", "default"},
      {"mirror", nullptr},
      {"sources", nullptr},
      {"subject_transform", nullptr},
  };
}

// What a server leaves out stands for this.
json Default(const std::string& name) {
  if (name == "discard_new_per_subject" || name == "sealed" || name == "no_ack" || name == "deny_delete") return false;
  if (name == "persist_mode") return "default";
  if (name == "max_age") return 0;
  if (name == "max_msgs" || name == "max_msg_size" || name == "max_msgs_per_subject") return -1;
  if (name == "num_replicas") return 1;
  return nullptr;
}

json Effective(const json& settings, const std::string& name) {
  const auto it = settings.find(name);
  json value = it == settings.end() ? Default(name) : *it;
  if (name == "persist_mode" && value == "") value = "default";
  if ((name == "max_msgs" || name == "max_msg_size") && value == 0) value = -1;
  if (name == "sources" && value.is_array() && value.empty()) value = nullptr;
  return value;
}

absl::Status Ask(NatsConnection& connection, const NatsBucket& bucket, const char* request, const std::string& body,
                 SteadyTime deadline, NatsStreamInfo* info) {
  absl::StatusOr<NatsMessage> answer = connection.Request(bucket.Api(request), body, {}, WallTime(deadline));
  if (!answer.ok()) {
    return absl::Status(answer.status().code(), absl::StrCat("nats: the stream ", bucket.stream(), ": ",
                                                             std::string(answer.status().message())));
  }
  absl::StatusOr<NatsStreamInfo> parsed = ParseStreamInfo(answer->data());
  if (!parsed.ok()) return parsed.status();
  *info = *std::move(parsed);
  if (!info->error.has_value()) return absl::OkStatus();
  absl::Status status = ToStatus(*info->error, absl::StrCat("the stream ", bucket.stream()));
  status.SetPayload(kAnswered, absl::Cord());
  return status;
}

// Of a version as "2.10.27" or "2.11.0-dev"; all 0 for what is not one.
std::array<int, 3> Numbers(std::string_view version) {
  const std::vector<std::string> parts = absl::StrSplit(std::string(version), absl::ByAnyChar(".-"));
  std::array<int, 3> numbers = {};
  if (parts.size() < 2 || !absl::SimpleAtoi(parts[0], &numbers[0]) || !absl::SimpleAtoi(parts[1], &numbers[1])) {
    return {};
  }
  if (parts.size() > 2 && !absl::SimpleAtoi(parts[2], &numbers[2])) numbers[2] = 0;
  return numbers;
}

}  // namespace

NatsBucket::NatsBucket(const NatsStoreOptions& options, const Traits* traits)
    : options_(options),
      traits_(traits),
      stream_(absl::StrCat("KV_", options.bucket)),
      subjects_(absl::StrCat("$KV.", options.bucket, ".")) {}

absl::Status NatsBucket::CheckOptions(const NatsStoreOptions& options) {
  const auto fits = [](char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_'; };
  if (options.bucket.empty() || options.bucket.size() > kMaxBucketBytes ||
      !std::all_of(options.bucket.begin(), options.bucket.end(), fits)) {
    return absl::InvalidArgumentError(
        absl::StrCat("nats: the bucket's name has 1 to ", kMaxBucketBytes, " letters, digits, '-' and '_'"));
  }
  if (options.replicas != 1 && options.replicas != 3 && options.replicas != 5) {
    return absl::InvalidArgumentError(absl::StrCat("nats: replicas is ", options.replicas, "; it must be 1, 3 or 5"));
  }
  if (options.delete_linger <= absl::ZeroDuration() || options.delete_linger > absl::Hours(24)) {
    return absl::InvalidArgumentError(absl::StrCat("nats: delete_linger is ",
                                                   absl::FormatDuration(options.delete_linger),
                                                   "; it must be above 0 and at most 24h"));
  }
  return absl::OkStatus();
}

std::string NatsBucket::Subject(std::string_view key) const { return subjects_ + EncodeKey(key); }

std::optional<std::string> NatsBucket::KeyOf(std::string_view subject) const {
  if (subject.substr(0, subjects_.size()) != subjects_) return std::nullopt;
  std::optional<std::string> key = DecodeKey(subject.substr(subjects_.size()));
  if (key.has_value() && !CheckKey(*key, *traits_).ok()) key.reset();
  return key;
}

std::string NatsBucket::Filter(std::string_view prefix) const { return subjects_ + EncodePrefix(prefix); }

std::string NatsBucket::Api(std::string_view request) const {
  return absl::StrCat("$JS.API.STREAM.", std::string(request), ".", stream_);
}

std::string NatsBucket::CreateRequest() const {
  json settings = {{"name", stream_}, {"description", NewStreamDescription()}};
  for (const auto& [name, value] : Wanted(options_, subjects_)) {
    if (value != Default(name)) settings[name] = value;
  }
  // As other clients make their buckets, so that their tools work on this one.
  settings["allow_rollup_hdrs"] = true;
  settings["allow_direct"] = true;
  return settings.dump();
}

absl::Status NatsBucket::Compare(const std::string& settings) const {
  const json present = json::parse(settings, nullptr, false);
  if (!present.is_object()) return absl::InternalError("nats: the stream's settings cannot be understood");
  std::vector<std::string> differences;
  for (const auto& [name, wanted] : Wanted(options_, subjects_)) {
    const json value = Effective(present, name);
    if (value != wanted) differences.push_back(absl::StrCat(name, ": is ", value.dump(), ", wanted ", wanted.dump()));
  }
  if (differences.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "nats: the bucket ", options_.bucket, " exists with settings that coordination cannot rely on: ",
      absl::StrJoin(differences, "; "), ". Choose another bucket, or change the options or the stream ", stream_));
}

absl::StatusOr<NatsStreamInfo> LookAtStream(NatsConnection& connection, const NatsBucket& bucket, SteadyTime deadline) {
  NatsStreamInfo info;
  absl::Status status = Ask(connection, bucket, "INFO", "", deadline, &info);
  if (status.ok()) status = bucket.Compare(info.settings);
  if (!status.ok()) return status;
  return info;
}

absl::StatusOr<NatsStreamInfo> EnsureStream(NatsConnection& connection, const NatsBucket& bucket, SteadyTime deadline) {
  absl::StatusOr<NatsStreamInfo> info = LookAtStream(connection, bucket, deadline);
  if (!absl::IsNotFound(info.status())) return info;
  // Of two clients that make it at a time one may be told that it exists, or that its subjects are taken: by itself.
  NatsStreamInfo made;
  const absl::Status status = Ask(connection, bucket, "CREATE", bucket.CreateRequest(), deadline, &made);
  if (!status.ok() && !made.error.has_value()) return status;
  info = LookAtStream(connection, bucket, deadline);
  return absl::IsNotFound(info.status()) && !status.ok() ? status : info;
}

absl::StatusOr<NatsStreamInfo> AwaitStream(NatsConnection& connection, const NatsBucket& bucket, SteadyTime deadline) {
  const SteadyTime begun = std::chrono::steady_clock::now();
  while (true) {
    const SteadyTime attempt = std::min(deadline, std::chrono::steady_clock::now() + kAttempt);
    absl::StatusOr<NatsStreamInfo> info = EnsureStream(connection, bucket, attempt);
    // NotFound: made and lost again in between.
    const bool again = absl::IsUnavailable(info.status()) || absl::IsNotFound(info.status()) ||
                       absl::IsDeadlineExceeded(info.status());
    if (!again) return info;
    const SteadyTime now = std::chrono::steady_clock::now();
    const bool silent = absl::IsUnavailable(info.status()) && !info.status().GetPayload(kAnswered).has_value();
    if (silent && connection.state() == NatsState::kConnected && now > begun + kStartPatience) {
      return absl::FailedPreconditionError(absl::StrCat(
          std::string(info.status().message()),
          ". Is JetStream on? The server's configuration needs \"jetstream {}\", and a cluster a majority"));
    }
    if (now + kRetryPause >= deadline) return absl::UnavailableError(std::string(info.status().message()));
    std::this_thread::sleep_for(kRetryPause);
  }
}

absl::Status CheckNatsVersion(std::string_view version, int replicas) {
  if (version == "2.10.19" && replicas == 1) {
    return absl::FailedPreconditionError(
        "nats: nats-server 2.10.19 does not keep conditional writes to a bucket with one replica apart (issue 5840 of "
        "nats-server): two writers can win. Use 2.10.20 or later");
  }
  // With replicas, versions before 2.9.21 have the same fault, for which there is a remedy: NatsWrites.
  const int minor = NatsMinorVersion(version);
  if (minor != 0 && minor < 209) {
    return absl::FailedPreconditionError(
        absl::StrCat("nats: nats-server ", std::string(version), " is too old for a store; 2.9 is the oldest"));
  }
  return absl::OkStatus();
}

int NatsMinorVersion(std::string_view version) {
  const std::array<int, 3> numbers = Numbers(version);
  return 100 * numbers[0] + numbers[1];
}

bool ComparesWhenApplied(std::string_view version) { return Numbers(version) >= std::array<int, 3>{2, 9, 21}; }

absl::Time WallTime(SteadyTime time) { return absl::Now() + absl::FromChrono(time - std::chrono::steady_clock::now()); }

}  // namespace kv::internal
