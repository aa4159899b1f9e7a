#include "tests/sim/server.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace sim {
namespace {

bool HasPrefix(std::string_view key, std::string_view prefix) { return key.substr(0, prefix.size()) == prefix; }

}  // namespace

Server::Server(const Config& config, const Network& network)
    : model_(config.model), sabotage_(config.sabotage), network_(network) {
  traits_.name = "simulated";
  traits_.durable = config.keeps();
  traits_.watch = config.watch();
  traits_.age = config.age;
  traits_.proves_incarnation = config.proves_incarnation;
  traits_.linearizable_reads = model_ != Model::kFollowerReads;
  traits_.volatile_storage = model_ == Model::kVolatile || model_ == Model::kEvicting;
  if (model_ == Model::kEvicting) {
    traits_.evicting = true;
    traits_.list = traits_.monotonic_revisions = false;
  }
}

kv::Entry Server::ToEntry(const Record& record) const {
  kv::Entry entry{record.value, record.revision, std::nullopt};
  if (traits_.age) entry.age = network_.now() - record.written;
  return entry;
}

absl::StatusOr<kv::Entry> Server::Get(std::string_view key, absl::Duration lag) const {
  if (lag <= absl::ZeroDuration() || traits_.linearizable_reads) {
    const auto found = records_.find(key);
    if (found == records_.end()) return absl::NotFoundError("simulated: no such key");
    return ToEntry(found->second);
  }
  const absl::Time then = network_.now() - lag;
  const Past* last = nullptr;
  if (const auto past = history_.find(key); past != history_.end()) {
    for (const Past& state : past->second) {
      if (state.since <= then) last = &state;
    }
  }
  if (last == nullptr || !last->record) return absl::NotFoundError("simulated: no such key, some time ago");
  return ToEntry(*last->record);
}

kv::Revision Server::NextRevision(const Record* before, absl::Time client_time) {
  if (model_ != Model::kEvicting) return ++revision_;
  const auto clock = static_cast<kv::Revision>(std::max<int64_t>(absl::ToUnixMicros(client_time), 1));
  return before == nullptr ? clock : std::max(before->revision + 1, clock);
}

void Server::Remember(const std::string& key, const std::optional<Record>& record) {
  if (!traits_.linearizable_reads) history_[key].push_back({network_.now(), record});
}

kv::WriteResult Server::Write(const WriteRequest& request) {
  const auto found = records_.find(request.key);
  const bool exists = found != records_.end();
  const bool conditional = request.kind == WriteRequest::kUpdate || request.kind == WriteRequest::kDelete;
  if (request.kind == WriteRequest::kCreate && exists) {
    return {absl::AlreadyExistsError("simulated: the key exists"), 0, ToEntry(found->second)};
  }
  if (conditional && !exists) return {absl::NotFoundError("simulated: no such key"), 0, std::nullopt};
  if (conditional && found->second.revision != request.expected && sabotage_ != Sabotage::kWrites) {
    return {absl::AbortedError(absl::StrCat("simulated: the key is at revision ", found->second.revision)), 0,
            ToEntry(found->second)};
  }
  const kv::Revision revision = NextRevision(exists ? &found->second : nullptr, request.client_time);
  const bool deleted = request.kind == WriteRequest::kDelete;
  if (deleted) {
    records_.erase(found);
    Remember(request.key, std::nullopt);
  } else {
    Record& record = records_[request.key];
    record = Record{request.value, revision, network_.now()};
    Remember(request.key, record);
  }
  const Commit commit{request.copy, request.key, request.value, revision, deleted};
  for (const auto& fn : on_commit_) fn(commit);
  return {absl::OkStatus(), deleted && model_ == Model::kEvicting ? 0 : revision, std::nullopt};
}

std::vector<kv::KeyedEntry> Server::List(std::string_view prefix) const {
  std::vector<kv::KeyedEntry> entries;
  for (auto it = records_.lower_bound(prefix); it != records_.end() && HasPrefix(it->first, prefix); ++it) {
    entries.push_back({it->first, ToEntry(it->second)});
  }
  return entries;
}

void Server::Keep() {
  kept_ = records_;
  kept_revision_ = revision_;
}

uint64_t Server::FallBack() {
  const uint64_t lost = revision_ - kept_revision_;
  records_ = kept_;
  revision_ = kept_revision_;
  return lost;
}

void Server::Restart() {
  records_.clear();
  revision_ = 0;
}

bool Server::Evict(std::string_view key) {
  const auto found = records_.find(key);
  if (found == records_.end()) return false;
  records_.erase(found);
  return true;
}

}  // namespace sim
