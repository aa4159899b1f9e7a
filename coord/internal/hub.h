// One watch of the store for a whole Cluster, handed out to those who registered for a part of the key space. On a
// store without a watch, hints are handed out instead: the key of a record that somebody says to have changed.

#ifndef COORD_INTERNAL_HUB_H_
#define COORD_INTERNAL_HUB_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "coord/runtime.h"
#include "kv/store.h"

namespace coord::internal {

class Hub {
 public:
  // Runs on the store's watch thread. Must not block, and must not call the store: note it down and wake somebody.
  using Handler = std::function<void(const kv::WatchEvent&)>;
  // Runs on a thread of the hints' transport, under the same rules. A hint says nothing about the record, and may be
  // late, repeated or made up: it is a reason to read, no more.
  using HintHandler = std::function<void(std::string_view key)>;

  Hub(Runtime& runtime, std::shared_ptr<kv::Store> store, std::string prefix);
  ~Hub();  // Stop()

  // Starts the watch over `prefix`; OK and without effect where the store has none.
  absl::Status Start();

  // After it has returned no handler runs. Not from inside a handler.
  void Stop();

  // True where the store has a watch at all.
  bool has_watch() const;

  // True while events come in the order of revisions: false before the first kSynced, and from kResync or kEpochChanged
  // to the next. Whoever registers while it is false gets that kSynced.
  bool synced() const;

  // A registration; after its destructor has returned its handler does not run (it waits for a running one, except
  // inside it).
  class Registration {
   public:
    virtual ~Registration() = default;
  };

  // `handler` gets every event whose key begins with `prefix` (an absolute key prefix), and kSynced, kResync and
  // kEpochChanged. Entries written before the registration are not repeated: read them after registering.
  // Finding the handlers of a key costs the number of its levels, not the number of registrations: `prefix` is either
  // a whole key or ends with '/'. `on_hint`, if there is one, gets every hint under `prefix`.
  std::unique_ptr<Registration> Register(std::string prefix, Handler handler, HintHandler on_hint = nullptr);

  // Hands out hints: one call at a time, and only on a store without a watch. The function may outlive the Hub.
  HintHandler HintSink() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
  std::shared_ptr<kv::Store> store_;
  std::unique_ptr<kv::Watch> watch_;
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_HUB_H_
