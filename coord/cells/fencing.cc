#include "coord/cells/fencing.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "coord/internal/cell_engine.h"
#include "coord/names.h"

namespace coord::internal {

std::string GuardName(const Held& held) { return absl::StrCat(held.name->kind, "/", held.name->name); }

absl::Status CheckGrant(const Core& core, const Cell& cell, const std::shared_ptr<Held>& held) {
  auto refuse = [&](const std::string& why) {
    return absl::FailedPreconditionError(absl::StrCat(cell.what(), " was not written: ", why));
  };
  if (held == nullptr) return refuse("the grant is empty: acquire the lock that guards it first");
  const std::string lock = QuoteName(GuardName(*held));
  if (held->core.get() != &core) {
    return refuse(absl::StrCat("the grant of ", lock, " comes from another Cluster; use one of the same"));
  }
  if (held->released.load(std::memory_order_acquire)) {
    return refuse(absl::StrCat("the grant of ", lock, " was released; acquire it again"));
  }
  if (!held->exclusive.load(std::memory_order_acquire)) {
    return refuse(absl::StrCat("the grant of ", lock,
                               " is shared with others, and only an exclusive one may write: of a Mutex, an Election, "
                               "or Acquire of a SharedMutex, and not downgraded"));
  }
  if (!held->Valid()) {
    return refuse(absl::StrCat("the grant of ", lock, " is lost; another copy may hold it now. Acquire it again"));
  }
  return absl::OkStatus();
}

absl::Status CheckFence(const std::string& what, const std::optional<CellRecord>& now, const std::string& guard,
                        uint64_t fence) {
  if (!now.has_value()) return absl::OkStatus();
  if (now->guard != guard) {
    return absl::FailedPreconditionError(absl::StrCat(what, " was not written: it is guarded by ",
                                                      QuoteName(now->guard), ", and the grant is of ", QuoteName(guard),
                                                      "; the fences of different locks cannot be compared"));
  }
  if (fence < now->fence) {
    return absl::FailedPreconditionError(absl::StrCat(
        what, " was not written: a later holder of ", QuoteName(guard), " has written it already (its fence is ",
        now->fence, ", this grant's is ", fence, "). This grant is lost; acquire the lock again"));
  }
  return absl::OkStatus();
}

absl::StatusOr<CellStatePtr> ModifyFenced(Core& core, Cell& cell, const std::shared_ptr<Held>& held,
                                          const UpdateFunction& fn, bool always, absl::Time deadline) {
  absl::Status status = core.CheckOpen();
  if (status.ok()) status = CheckGrant(core, cell, held);
  if (!status.ok()) return status;
  const std::string guard = GuardName(*held);
  return core.cells->Modify(
      cell,
      [&](const std::optional<CellRecord>& now) -> absl::StatusOr<std::optional<CellRecord>> {
        absl::Status fresh = CheckFence(cell.what(), now, guard, held->fence);
        if (!fresh.ok()) return fresh;
        absl::StatusOr<std::string> value = fn(now ? std::optional<std::string>(now->value) : std::nullopt);
        if (!value.ok()) return value.status();
        const bool same = now.has_value() && *value == now->value && now->fence == held->fence;
        if (same && !always) return std::nullopt;
        CellRecord next = now.value_or(CellRecord());
        next.guard = guard;
        next.fence = held->fence;
        next.value = *std::move(value);
        return next;
      },
      deadline, [&] { return CheckGrant(core, cell, held); });
}

}  // namespace coord::internal
