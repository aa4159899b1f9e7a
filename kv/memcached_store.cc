#include "kv/memcached_store.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "kv/internal/deadline.h"
#include "kv/internal/memcached_address.h"
#include "kv/internal/memcached_connection.h"
#include "kv/internal/memcached_item.h"
#include "kv/internal/memcached_pool.h"

namespace kv {
namespace {

using internal::ItemName;
using internal::MemcachedAnswer;
using internal::MemcachedItem;
using internal::MemcachedPool;
using internal::MemcachedStage;
using internal::SteadyTime;

constexpr int kConnections = 8;
// A connection that answered so lately is taken to be alive: longer than from a Get to the Create that follows it,
// shorter than a restart of the server.
constexpr std::chrono::milliseconds kAlive(10);
// A Put that loses so often finds something badly wrong.
constexpr int kPutTries = 1000;

// Above `previous`, above all that this process gave before, and not behind the clock.
Revision NextRevision(Revision previous) {
  static std::atomic<Revision> last{0};
  const auto now = static_cast<Revision>(std::max<int64_t>(absl::ToUnixMicros(absl::Now()), 1));
  Revision before = last.load(std::memory_order_relaxed);
  Revision next = 0;
  do {
    next = std::max({now, previous + 1, before + 1});
  } while (!last.compare_exchange_weak(before, next, std::memory_order_relaxed));
  return next;
}

WriteResult Failed(absl::Status status) { return {std::move(status), 0, std::nullopt}; }

absl::Status ZeroRevision() {
  return absl::InvalidArgumentError("memcached: 0 is not a revision; use Create for an absent key");
}

absl::Status Absent() { return absl::NotFoundError("memcached: the key does not exist"); }

// The end of a Get: what was found, and the connection that found it, for a write that follows.
struct Found {
  MemcachedPool::Lease lease;
  uint64_t id;  // 0: there is no such item
  Entry entry;
};

// A write that was sent on condition of what was found, and not done.
absl::Status Lost(MemcachedAnswer answer, const Found& found) {
  if (answer == MemcachedAnswer::kAbsent) return Absent();
  if (answer == MemcachedAnswer::kExists) return absl::AbortedError("memcached: another write came first");
  return found.lease->Error(answer, MemcachedStage::kWrite);
}

class MemcachedStore : public Store {
 public:
  MemcachedStore(const internal::MemcachedAddress& address, std::string escaped_prefix, size_t max_value_bytes)
      : prefix_(std::move(escaped_prefix)), pool_(address, kConnections) {
    traits_.name = "memcached";
    traits_.monotonic_revisions = false;
    traits_.list = false;
    traits_.evicting = true;
    traits_.volatile_storage = true;
    traits_.max_value_bytes = max_value_bytes;
  }

  absl::StatusOr<Entry> Get(std::string_view key, absl::Time deadline) override;
  WriteResult Create(std::string_view key, std::string_view value, absl::Time deadline) override;
  WriteResult Update(std::string_view key, std::string_view value, Revision expected, absl::Time deadline) override;
  WriteResult Delete(std::string_view key, Revision expected, absl::Time deadline) override;
  WriteResult Put(std::string_view key, std::string_view value, absl::Time deadline) override;

  absl::StatusOr<std::vector<KeyedEntry>> List(std::string_view, absl::Time) override {
    return absl::UnimplementedError("memcached: the server cannot list its keys");
  }
  absl::StatusOr<std::unique_ptr<Watch>> WatchPrefix(std::string_view, WatchCallback) override {
    return absl::UnimplementedError("memcached: the server does not tell of changes");
  }
  const Traits& traits() const override { return traits_; }
  Connection connection() const override {
    return pool_.reachable() ? Connection::kConnected : Connection::kReconnecting;
  }

 private:
  absl::StatusOr<SteadyTime> Begin(std::string_view key, absl::Time deadline) const;
  absl::StatusOr<SteadyTime> BeginWrite(std::string_view key, std::string_view value, absl::Time deadline) const;
  absl::StatusOr<Found> Read(const ItemName& name, MemcachedPool::Lease lease, SteadyTime until, MemcachedStage stage);
  absl::StatusOr<Found> ReadExpected(const ItemName& name, Revision expected, SteadyTime until, WriteResult* lost);
  WriteResult Add(MemcachedPool::Lease& lease, const ItemName& name, std::string_view value, SteadyTime until);
  WriteResult Replace(Found& found, const ItemName& name, std::string_view value, SteadyTime until);

  const std::string prefix_;
  Traits traits_;
  MemcachedPool pool_;
};

absl::StatusOr<SteadyTime> MemcachedStore::Begin(std::string_view key, absl::Time deadline) const {
  if (!pool_.InItsProcess()) {
    return absl::FailedPreconditionError(
        "memcached: this store was opened before a fork and cannot be used in the child process; open it anew there");
  }
  if (absl::Status status = CheckKey(key, traits_); !status.ok()) return status;
  const std::optional<SteadyTime> until = internal::SteadyDeadline(deadline);
  if (!until.has_value()) return absl::DeadlineExceededError("memcached: the deadline had passed before the call");
  return *until;
}

absl::StatusOr<SteadyTime> MemcachedStore::BeginWrite(std::string_view key, std::string_view value,
                                                      absl::Time deadline) const {
  if (absl::Status status = CheckValue(value, traits_); !status.ok()) return status;
  return Begin(key, deadline);
}

// The item `name`, read over `lease`, or over a new connection where that one turns out to have broken before.
absl::StatusOr<Found> MemcachedStore::Read(const ItemName& name, MemcachedPool::Lease lease, SteadyTime until,
                                           MemcachedStage stage) {
  MemcachedItem item;
  MemcachedAnswer answer = lease->Get(name.text, until, &item);
  if (answer == MemcachedAnswer::kBroken && !lease.fresh()) {
    if (absl::Status status = lease.Renew(until); !status.ok()) return status;
    answer = lease->Get(name.text, until, &item);
  }
  if (answer == MemcachedAnswer::kAbsent) return Found{std::move(lease), 0, {}};
  if (answer != MemcachedAnswer::kDone) return lease->Error(answer, stage);
  absl::StatusOr<Entry> entry = internal::DecodeItem(name, std::move(item.bytes));
  if (!entry.ok()) return entry.status();
  return Found{std::move(lease), item.id, *std::move(entry)};
}

absl::StatusOr<Entry> MemcachedStore::Get(std::string_view key, absl::Time deadline) {
  const absl::StatusOr<SteadyTime> until = Begin(key, deadline);
  if (!until.ok()) return until.status();
  absl::StatusOr<MemcachedPool::Lease> lease = pool_.Take(*until);
  if (!lease.ok()) return lease.status();
  absl::StatusOr<Found> found =
      Read(internal::NameItem(prefix_, key), *std::move(lease), *until, MemcachedStage::kRead);
  if (!found.ok()) return found.status();
  if (found->id == 0) return Absent();
  return std::move(found->entry);
}

WriteResult MemcachedStore::Create(std::string_view key, std::string_view value, absl::Time deadline) {
  const absl::StatusOr<SteadyTime> until = BeginWrite(key, value, deadline);
  if (!until.ok()) return Failed(until.status());
  absl::StatusOr<MemcachedPool::Lease> lease = pool_.Take(*until);
  if (!lease.ok()) return Failed(lease.status());
  const ItemName name = internal::NameItem(prefix_, key);
  if (std::chrono::steady_clock::now() - (*lease)->last_answer() < kAlive) return Add(*lease, name, value, *until);
  absl::StatusOr<Found> found = Read(name, *std::move(lease), *until, MemcachedStage::kReadBeforeWrite);
  if (!found.ok()) return Failed(found.status());
  if (found->id == 0) return Add(found->lease, name, value, *until);
  return {absl::AlreadyExistsError("memcached: the key exists"), 0, std::move(found->entry)};
}

WriteResult MemcachedStore::Add(MemcachedPool::Lease& lease, const ItemName& name, std::string_view value,
                                SteadyTime until) {
  const Revision revision = NextRevision(0);
  const MemcachedAnswer answer = lease->Add(name.text, internal::EncodeItem(name, revision, value), until);
  if (answer == MemcachedAnswer::kDone) return {absl::OkStatus(), revision, std::nullopt};
  if (answer == MemcachedAnswer::kExists) return Failed(absl::AlreadyExistsError("memcached: the key exists"));
  return Failed(lease->Error(answer, MemcachedStage::kWrite));
}

// Where the status is not ok, `lost` says what comes of the write.
absl::StatusOr<Found> MemcachedStore::ReadExpected(const ItemName& name, Revision expected, SteadyTime until,
                                                   WriteResult* lost) {
  absl::StatusOr<MemcachedPool::Lease> lease = pool_.Take(until);
  absl::StatusOr<Found> found =
      lease.ok() ? Read(name, *std::move(lease), until, MemcachedStage::kReadBeforeWrite) : lease.status();
  if (!found.ok()) {
    *lost = Failed(found.status());
  } else if (found->id == 0) {
    *lost = Failed(Absent());
  } else if (found->entry.revision != expected) {
    *lost = {absl::AbortedError(
                 absl::StrCat("memcached: the key is at revision ", found->entry.revision, ", not at ", expected)),
             0, std::move(found->entry)};
  } else {
    return found;
  }
  return lost->status;
}

WriteResult MemcachedStore::Update(std::string_view key, std::string_view value, Revision expected,
                                   absl::Time deadline) {
  if (expected == 0) return Failed(ZeroRevision());
  const absl::StatusOr<SteadyTime> until = BeginWrite(key, value, deadline);
  if (!until.ok()) return Failed(until.status());
  const ItemName name = internal::NameItem(prefix_, key);
  WriteResult lost;
  absl::StatusOr<Found> found = ReadExpected(name, expected, *until, &lost);
  if (!found.ok()) return lost;
  return Replace(*found, name, value, *until);
}

WriteResult MemcachedStore::Replace(Found& found, const ItemName& name, std::string_view value, SteadyTime until) {
  const Revision revision = NextRevision(found.entry.revision);
  const MemcachedAnswer answer =
      found.lease->Replace(name.text, internal::EncodeItem(name, revision, value), found.id, until);
  if (answer == MemcachedAnswer::kDone) return {absl::OkStatus(), revision, std::nullopt};
  return Failed(Lost(answer, found));
}

WriteResult MemcachedStore::Delete(std::string_view key, Revision expected, absl::Time deadline) {
  if (expected == 0) return Failed(ZeroRevision());
  const absl::StatusOr<SteadyTime> until = Begin(key, deadline);
  if (!until.ok()) return Failed(until.status());
  const ItemName name = internal::NameItem(prefix_, key);
  WriteResult lost;
  absl::StatusOr<Found> found = ReadExpected(name, expected, *until, &lost);
  if (!found.ok()) return lost;
  const MemcachedAnswer answer = found->lease->Expire(name.text, found->id, *until);
  if (answer == MemcachedAnswer::kDone) return {absl::OkStatus(), 0, std::nullopt};
  return Failed(Lost(answer, *found));
}

WriteResult MemcachedStore::Put(std::string_view key, std::string_view value, absl::Time deadline) {
  const absl::StatusOr<SteadyTime> until = BeginWrite(key, value, deadline);
  if (!until.ok()) return Failed(until.status());
  const ItemName name = internal::NameItem(prefix_, key);
  // Not memcached's `set`: the new revision must be above the old one, and a set that fails removes the old value.
  for (int tries = 0; tries < kPutTries; ++tries) {
    absl::StatusOr<MemcachedPool::Lease> lease = pool_.Take(*until);
    if (!lease.ok()) return Failed(lease.status());
    absl::StatusOr<Found> found = Read(name, *std::move(lease), *until, MemcachedStage::kReadBeforeWrite);
    if (!found.ok()) return Failed(found.status());
    WriteResult result = found->id == 0 ? Add(found->lease, name, value, *until) : Replace(*found, name, value, *until);
    const absl::StatusCode code = result.status.code();
    if (code != absl::StatusCode::kAborted && code != absl::StatusCode::kAlreadyExists &&
        code != absl::StatusCode::kNotFound) {
      return result;
    }
  }
  return Failed(absl::UnavailableError(
      absl::StrCat("memcached: others changed the key during each of ", kPutTries, " tries; nothing was written")));
}

absl::StatusOr<size_t> MaxValueBytes(const internal::MemcachedAddress& address, SteadyTime until) {
  const absl::StatusOr<internal::MemcachedSettings> settings = internal::MemcachedConnection::Inspect(address, until);
  if (!settings.ok()) return settings.status();
  if (settings->item_size_max <= internal::kItemOverhead) {
    return absl::FailedPreconditionError(absl::StrCat("memcached: the server at ", address.Text(),
                                                      " does not tell its item size, or it is not above ",
                                                      internal::kItemOverhead, " bytes (-I)"));
  }
  return std::min(Traits().max_value_bytes, settings->item_size_max - internal::kItemOverhead);
}

}  // namespace

absl::StatusOr<std::shared_ptr<Store>> OpenMemcachedStore(const std::string& server, absl::Time deadline,
                                                          const MemcachedStoreOptions& options) {
  const absl::StatusOr<internal::MemcachedAddress> address = internal::ParseMemcachedAddress(server);
  if (!address.ok()) return address.status();
  absl::StatusOr<std::string> prefix = internal::EscapeItemPrefix(options.prefix);
  if (!prefix.ok()) return prefix.status();
  const std::optional<SteadyTime> until = internal::SteadyDeadline(deadline);
  if (!until.has_value()) return absl::DeadlineExceededError("memcached: the deadline had passed before the call");
  const absl::StatusOr<std::vector<std::string>> resolved = internal::ResolveMemcachedAddress(*address);
  if (!resolved.ok()) return resolved.status();
  if (absl::Status status = internal::CheckOneServer(*address, *resolved); !status.ok()) return status;

  const absl::StatusOr<size_t> max_value_bytes = MaxValueBytes(*address, *until);
  if (!max_value_bytes.ok()) return max_value_bytes.status();
  return std::make_shared<MemcachedStore>(*address, *std::move(prefix), *max_value_bytes);
}

}  // namespace kv
