// A value that every copy keeps in memory, pushed by the store: a read costs nanoseconds and no store call. For
// settings.
//
//   auto settings = cluster->SharedValue("settings", deadline);      // reads once, then follows
//   std::shared_ptr<const coord::Versioned> now = (*settings)->Get();   // null: absent
//
// A read may be late by one push. On a store without a watch it may be late by about 10 ms where JoinOptions::events
// carries hints, else by a poll (every ttl/8 or so, 3/16 of the ttl at most). Own writes are always seen by reads that
// follow them in this process, and no read ever goes back to an older state, but for this: after a loss of the store (a
// new epoch) the new store's state counts, what the store drops by itself is absent, and where the store's reads may
// lag a value just created may be shown as absent once more until the next push or read. The same cell as AtomicValue
// of the same name.
//
// Thread safety: all methods, from any thread. The object may outlive its Cluster; it then keeps the last state.

#ifndef COORD_SHARED_VALUE_H_
#define COORD_SHARED_VALUE_H_

#include "coord/atomic_value.h"
#include "coord/subscription.h"

namespace coord {

class SharedValue {
 public:
  ~SharedValue();

  // The newest state this copy has heard of; null if absent.
  std::shared_ptr<const Versioned> Get() const;

  // As in AtomicValue.
  absl::StatusOr<Revision> Set(std::string_view value, absl::Time deadline);
  absl::StatusOr<Revision> CompareAndSet(const Revision& expected, std::string_view value, absl::Time deadline);
  absl::StatusOr<Versioned> Update(const UpdateFunction& fn, absl::Time deadline);
  absl::Status Delete(const Revision& expected, absl::Time deadline);

  // Calls `fn` on the Cluster's callback thread with the present state and after every change (null: absent). Changes
  // that follow quickly may be folded; the last is always delivered.
  Subscription OnChange(std::function<void(const std::shared_ptr<const Versioned>&)> fn);

 private:
  friend class Cluster;
  friend struct internal::CellTestPeer;
  struct State;
  static absl::StatusOr<std::shared_ptr<SharedValue>> Open(std::shared_ptr<internal::Core> core, std::string_view name,
                                                           absl::Time deadline);
  explicit SharedValue(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace coord

#endif  // COORD_SHARED_VALUE_H_
