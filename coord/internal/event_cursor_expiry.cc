#include "coord/internal/event_cursor_expiry.h"

#include "absl/strings/str_cat.h"
#include "coord/internal/event_record.h"

namespace coord::internal {
namespace {

void ExpireCursor(Core& core, kv::Store& store, const kv::KeyedEntry& entry, absl::Duration keep_cursors) {
  absl::StatusOr<EventCursor> cursor = ParseEventCursor(entry.entry.value, "a cursor");
  if (!cursor.ok()) return;  // its owner reports it
  const absl::Duration age = entry.entry.age.value_or(core.runtime->WallNow() - cursor->at);
  if (cursor->expired) {
    if (age > keep_cursors * kKeepExpiredCursors) {
      (void)store.Delete(entry.key, entry.entry.revision, core.CallDeadline(absl::InfiniteFuture()));
    }
    return;
  }
  if (age <= keep_cursors) return;
  cursor->expired = true;
  cursor->last.clear();
  cursor->at = core.runtime->WallNow();
  cursor->nonce = core.Nonce();
  // If it fails the next sweep tries again; if the revision moved it is in use after all.
  (void)store.Update(entry.key, Format(*cursor), entry.entry.revision, core.CallDeadline(absl::InfiniteFuture()));
}

}  // namespace

void ExpireCursors(Core& core, kv::Store& store, const EventWorker& worker, absl::Duration keep_cursors) {
  const auto entries =
      store.List(absl::StrCat(core.options.plugin, "/cursor/"), core.CallDeadline(absl::InfiniteFuture()));
  if (!entries.ok()) return;
  for (const kv::KeyedEntry& entry : *entries) {
    if (worker.stopping()) return;
    ExpireCursor(core, store, entry, keep_cursors);
  }
}

}  // namespace coord::internal
