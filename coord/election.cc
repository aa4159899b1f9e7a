#include "coord/election.h"

#include <utility>

#include "coord/internal/callback_list.h"
#include "coord/internal/core.h"
#include "coord/internal/grant_engine.h"

namespace coord {

using kv::internal::MutexLock;

absl::StatusOr<Grant> Election::Campaign(std::string_view value, absl::Time deadline, const CancelToken& cancel) {
  internal::Ask ask;
  ask.value = std::string(value);
  return core_->grants->Acquire(name_, std::move(ask), deadline, cancel);
}

absl::Status Election::Proclaim(const Grant& term, std::string_view value, absl::Time deadline) {
  const std::shared_ptr<internal::Held>& held = term.held();
  if (held == nullptr || held->core != core_ || held->name->kind != name_->kind || held->name->name != name_->name) {
    return absl::FailedPreconditionError("the grant is not a term of this election");
  }
  return core_->grants->Proclaim(held, value, deadline);
}

absl::Status Election::Resign(Grant& term, absl::Duration timeout) { return term.Release(timeout); }

absl::StatusOr<std::shared_ptr<const LeaderInfo>> Election::Leader() {
  internal::LeaderCell* cell = name_->leader.load(std::memory_order_acquire);
  if (cell == nullptr || !cell->known()) {
    const absl::Time deadline = core_->runtime->WallNow() + core_->options.call_timeout;
    absl::StatusOr<std::shared_ptr<internal::LeaderCell>> found = core_->grants->Leader(name_, deadline);
    if (!found.ok()) return found.status();
    return (*found)->Get();
  }
  if (absl::Status open = core_->CheckOpen(); !open.ok()) return open;
  return cell->Get();
}

Subscription Election::Observe(std::function<void(const LeaderInfo&)> fn) {
  if (!name_->error.ok() || !core_->CheckOpen().ok()) return Subscription();
  return core_->grants->LeaderWithoutRead(*name_)->Observe(std::move(fn));
}

absl::StatusOr<NameInfo> Election::Inspect(absl::Time deadline) { return core_->grants->Inspect(*name_, deadline); }

// ---------------------------------------------------------------------------------------------- standing candidates

namespace {

// Shared by the candidate and by the callbacks that are on their way to it.
class Standing : public std::enable_shared_from_this<Standing> {
 public:
  Standing(std::shared_ptr<internal::Core> core, std::shared_ptr<const internal::GrantName> name,
           CandidateOptions options)
      : core_(std::move(core)), name_(std::move(name)), options_(std::move(options)), gate_(*core_->runtime) {
    value_ = options_.value;
  }

  void Campaign() {
    internal::Ask ask;
    ask.standing = true;
    {
      MutexLock lock(mu_);
      if (withdrawn_ || std::exchange(campaigning_, true)) return;
      ask.value = value_;
    }
    core_->grants->AcquireAsync(
        name_, std::move(ask), absl::InfiniteFuture(),
        [self = shared_from_this()](absl::StatusOr<Grant> term) { self->OnTerm(std::move(term)); }, cancel_.token());
  }

  void Observe() {
    if (!options_.on_new_leader || !name_->error.ok()) return;
    observation_ =
        core_->grants->LeaderWithoutRead(*name_)->Observe([weak = weak_from_this()](const LeaderInfo& leader) {
          if (auto self = weak.lock()) self->gate_.Run([&] { self->options_.on_new_leader(leader); });
        });
  }

  std::shared_ptr<const Grant> Term() const {
    MutexLock lock(mu_);
    return term_ != nullptr && !term_->Lost() ? term_ : nullptr;
  }

  absl::Status StepDown(absl::Duration timeout) {
    std::shared_ptr<Grant> term;
    {
      MutexLock lock(mu_);
      if (term_ != nullptr && !term_->Lost()) {
        term = std::exchange(term_, nullptr);
        told_ = false;
      }
    }
    if (term == nullptr) return absl::FailedPreconditionError("this copy does not lead: only the leader can step down");
    absl::Status status = term->Release(timeout);
    Campaign();
    return status;
  }

  absl::Status Proclaim(std::string_view value, absl::Time deadline) {
    std::shared_ptr<Grant> term;
    {
      MutexLock lock(mu_);
      value_ = std::string(value);
      term = term_;
    }
    if (term == nullptr || term->Lost()) return absl::OkStatus();
    return core_->grants->Proclaim(term->held(), value, deadline);
  }

  void Withdraw() {
    std::shared_ptr<Grant> term;
    {
      MutexLock lock(mu_);
      withdrawn_ = true;
      term = std::exchange(term_, nullptr);
    }
    cancel_.Cancel();
    observation_ = Subscription();
    if (term != nullptr) static_cast<void>(term->Release());
    gate_.Cancel();
  }

 private:
  void OnTerm(absl::StatusOr<Grant> won) {
    if (!won.ok()) {
      {
        MutexLock lock(mu_);
        campaigning_ = false;
      }
      if (absl::IsCancelled(won.status())) return;
      core_->Log(LogLevel::kWarning, "a candidate cannot stand: " + std::string(won.status().message()));
      return;
    }
    auto term = std::make_shared<Grant>(*std::move(won));
    {
      MutexLock lock(mu_);
      campaigning_ = false;
      if (withdrawn_) return;  // the grant's destructor resigns
      term_ = term;
    }
    term->OnLost([self = shared_from_this(), fence = term->fence()] { self->OnLoss(fence); });
    gate_.Run([&] {
      {
        MutexLock lock(mu_);
        if (term_ != term || term->Lost()) return;  // a term that is over already is not announced
        told_ = true;
      }
      if (options_.on_elected) options_.on_elected(term);
    });
  }

  void OnLoss(uint64_t fence) {
    bool told = false;
    {
      MutexLock lock(mu_);
      if (term_ != nullptr && term_->fence() == fence) {
        term_ = nullptr;
        told = std::exchange(told_, false);
      }
    }
    if (told && options_.on_lost) gate_.Run([&] { options_.on_lost(); });
    Campaign();
  }

  const std::shared_ptr<internal::Core> core_;
  const std::shared_ptr<const internal::GrantName> name_;
  const CandidateOptions options_;
  internal::CallbackGate gate_;
  CancelSource cancel_;
  Subscription observation_;
  mutable kv::internal::Mutex mu_;
  std::string value_ KV_GUARDED_BY(mu_);
  std::shared_ptr<Grant> term_ KV_GUARDED_BY(mu_);
  bool campaigning_ KV_GUARDED_BY(mu_) = false;  // a request is under way
  bool told_ KV_GUARDED_BY(mu_) = false;         // on_elected was called for the present term
  bool withdrawn_ KV_GUARDED_BY(mu_) = false;    // its candidate is gone
};

class StandingCandidate final : public Candidate {
 public:
  explicit StandingCandidate(std::shared_ptr<Standing> standing) : standing_(std::move(standing)) {}
  ~StandingCandidate() override { standing_->Withdraw(); }
  std::shared_ptr<const Grant> Term() const override { return standing_->Term(); }
  absl::Status StepDown(absl::Duration timeout) override { return standing_->StepDown(timeout); }
  absl::Status Proclaim(std::string_view value, absl::Time deadline) override {
    return standing_->Proclaim(value, deadline);
  }

 private:
  const std::shared_ptr<Standing> standing_;
};

}  // namespace

std::unique_ptr<Candidate> Election::Stand(CandidateOptions options) {
  auto standing = std::make_shared<Standing>(core_, name_, std::move(options));
  standing->Observe();
  standing->Campaign();
  return std::make_unique<StandingCandidate>(std::move(standing));
}

}  // namespace coord
