// A callback that stays registered while this object lives.

#ifndef COORD_SUBSCRIPTION_H_
#define COORD_SUBSCRIPTION_H_

#include <memory>

namespace coord {

// Destroying it ends the subscription: no further callback begins, and a running one is waited for, except from inside
// it. Any thread. It may outlive its Cluster.
class Subscription {
 public:
  Subscription() = default;
  explicit Subscription(std::shared_ptr<void> state) : state_(std::move(state)) {}
  Subscription(Subscription&&) = default;
  Subscription& operator=(Subscription&&) = default;
  Subscription(const Subscription&) = delete;
  Subscription& operator=(const Subscription&) = delete;
  ~Subscription() = default;

  explicit operator bool() const { return state_ != nullptr; }

 private:
  std::shared_ptr<void> state_;
};

}  // namespace coord

#endif  // COORD_SUBSCRIPTION_H_
