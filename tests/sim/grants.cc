#include "tests/sim/grants.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/world.h"

namespace sim {
namespace {

absl::Duration Patience(Copy& copy, Dice& dice) {
  const absl::Duration ttl = copy.world().config.ttl;
  // Patient ones see to it that there are queues.
  if (dice.Chance(50) || !copy.world().config.has(Fault::kCancel)) return ttl * 5 + absl::Seconds(10);
  static constexpr int kMilliseconds[] = {0, 1, 10, 100, 500};
  return dice.Chance(60) ? absl::Milliseconds(kMilliseconds[dice.Below(std::size(kMilliseconds))]) : dice.Upto(ttl * 3);
}

// Waits for the callback, as an event loop that has nothing else to do.
absl::StatusOr<coord::Grant> AskAsync(Copy& copy, const Request& request, absl::Time deadline,
                                      const coord::CancelToken& cancel) {
  struct Answer {
    kv::internal::Mutex mu;
    std::unique_ptr<coord::Condition> came;
    int calls = 0;
    absl::StatusOr<coord::Grant> grant = absl::UnknownError("not called back");
  };
  auto answer = std::make_shared<Answer>();
  answer->came = copy.runtime().NewCondition();
  request.ask_async(
      deadline,
      [answer, &copy](absl::StatusOr<coord::Grant> grant) {
        if (++answer->calls > 1) copy.world().report.Violation("callback", "AcquireAsync has called back twice");
        answer->grant = std::move(grant);
        answer->came->NotifyAll();
      },
      cancel);
  kv::internal::MutexLock lock(answer->mu);
  while (answer->calls == 0) answer->came->Wait(answer->mu, absl::InfiniteFuture());
  return std::move(answer->grant);
}

void Release(Copy& copy, Dice& dice, coord::Grant grant, Hold* hold) {
  if (dice.Chance(15)) {
    const bool lost = grant.Lost();
    // Between this look and the destructor it may be lost too, in a process that waits or stands still.
    grant = coord::Grant();
    return copy.world().observer->Ended(hold, lost ? Hold::kLost : Hold::kEither);
  }
  const absl::Duration patience = dice.Chance(20) ? absl::ZeroDuration() : absl::Duration(absl::Seconds(2));
  const absl::Time begun = copy.runtime().Now();
  const absl::Time begun_true = copy.world().network.now();
  const absl::Status released = grant.Release(patience);
  const absl::Duration took = copy.runtime().Now() - begun;
  copy.world().timeline.Tell(copy.number(), "released", static_cast<uint64_t>(released.code()),
                             [&] { return absl::StrCat("Release of ", hold->name, " says ", released.ToString()); });
  if (took > patience + absl::Milliseconds(5) && !copy.StoodStillSince(begun_true)) {
    copy.world().report.Violation("bound", absl::StrCat("Release took ", absl::FormatDuration(took), " instead of ",
                                                        absl::FormatDuration(patience)));
  }
  const bool lost = absl::IsFailedPrecondition(released);
  if (!lost && !released.ok() && !absl::IsUnavailable(released) && !absl::IsDeadlineExceeded(released)) {
    copy.world().report.Violation("code", absl::StrCat("Release of ", hold->name, ": ", released.ToString()));
  }
  copy.world().observer->Ended(hold, lost ? Hold::kLost : Hold::kGivenUp);
}

}  // namespace

void CheckFailure(Copy& copy, const std::string& what, const absl::Status& status, bool may_be_refused) {
  if (absl::IsDeadlineExceeded(status) || absl::IsCancelled(status) || absl::IsResourceExhausted(status) ||
      absl::IsUnavailable(status) || (may_be_refused && absl::IsFailedPrecondition(status))) {
    return;
  }
  copy.world().report.Violation("code", absl::StrCat("copy ", copy.number(), ": ", what, ": ", status.ToString()));
}

bool AskAndHold(Copy& copy, Dice& dice, const Request& request) {
  World& world = copy.world();
  coord::CancelSource cancel;
  coord::CancelToken token = copy.stopped();
  if (world.config.has(Fault::kCancel) && dice.Chance(25)) {
    token = cancel.token();
    world.network.After(dice.Upto(world.config.ttl), [cancel]() mutable { cancel.Cancel(); });
    ++world.report.faults[static_cast<int>(Fault::kCancel)];
  }
  const absl::Duration patience = Patience(copy, dice);
  const absl::Time begun = copy.runtime().Now();
  const absl::Time begun_true = world.network.now();
  world.timeline.Tell(copy.number(), "asks", static_cast<uint64_t>(patience / absl::Milliseconds(1)), [&] {
    return absl::StrCat("asks ", request.ask ? "" : "asynchronously ", "for ", request.name, " weight ", request.weight,
                        " within ", absl::FormatDuration(patience));
  });
  absl::StatusOr<coord::Grant> grant =
      request.ask ? request.ask(copy.In(patience), token) : AskAsync(copy, request, copy.In(patience), token);
  const absl::Duration took = copy.runtime().Now() - begun;
  // An asynchronous one is told after the store call that is under way, and those of other locks before it.
  const absl::Duration late = request.ask ? absl::Milliseconds(5) : world.config.call_timeout() * 3;
  if (took > patience + late && !copy.StoodStillSince(begun_true)) {
    world.report.Violation(
        "bound",
        absl::StrCat("copy ", copy.number(), request.ask ? ": Acquire of " : ": AcquireAsync of ", request.name,
                     " took ", absl::FormatDuration(took), " instead of ", absl::FormatDuration(patience)));
  }
  if (!grant.ok()) {
    world.timeline.Tell(copy.number(), "no grant", static_cast<uint64_t>(grant.status().code()),
                        [&] { return absl::StrCat("did not get ", request.name, ": ", grant.status().ToString()); });
    CheckFailure(copy, request.name, grant.status(), request.may_be_refused);
    return false;
  }
  Hold* const hold = world.observer->Acquired(copy.number(), request.name, request.capacity, request.weight,
                                              request.fence_each, *grant);
  if (request.hold) request.hold(*grant, hold);
  if (dice.Chance(70)) copy.runtime().SleepFor(dice.Upto(dice.Chance(85) ? absl::Milliseconds(100) : world.config.ttl));
  Release(copy, dice, *std::move(grant), hold);
  return true;
}

}  // namespace sim
