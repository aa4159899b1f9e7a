// Copies on one store, by default a database in a folder of their own, as most tests here need them.

#ifndef TESTS_PROCESS_COPIES_H_
#define TESTS_PROCESS_COPIES_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kv/open.h"
#include "kv/store.h"
#include "tests/process/process.h"

namespace process_test {

class CopiesTest : public testing::Test {
 protected:
  std::string database() const { return folder_ / "coord.db"; }
  virtual std::string url() const { return "sqlite:" + database(); }

  virtual Process::Options OptionsOf(const std::string& instance, absl::Duration ttl) const {
    Process::Options options;
    options.store = url();
    options.instance = instance;
    options.ttl = ttl;
    return options;
  }

  // A copy that has not joined yet.
  std::unique_ptr<Process> Start(const std::string& instance, absl::Duration ttl) const {
    return std::make_unique<Process>(OptionsOf(instance, ttl));
  }

  // Joins all, at the same time.
  static void Join(const std::vector<Process*>& copies) {
    std::vector<std::pair<Process*, int>> joining;
    for (Process* copy : copies) joining.emplace_back(copy, copy->Send("join 30000"));
    for (auto& [copy, tag] : joining) {
      const Reply joined = copy->Await(tag);
      ASSERT_TRUE(joined.ok()) << copy->instance() << ": " << joined.status;
    }
  }

  std::unique_ptr<Process> Joined(const std::string& instance, absl::Duration ttl) const {
    std::unique_ptr<Process> copy = Start(instance, ttl);
    Join({copy.get()});
    return copy;
  }

  // Waits until `mutex` is owned by `owner` and `waiters` wait in this order; fatal if that does not come.
  static void AwaitQueue(Process& copy, const std::string& mutex, const std::string& owner,
                         const std::string& waiters) {
    const std::string end =
        "owners" + (owner.empty() ? "" : " " + owner) + " waiters" + (waiters.empty() ? "" : " " + waiters);
    std::string last;
    ASSERT_TRUE(Eventually([&] {
      last = copy.Call("inspect " + mutex + " 10000").text;
      return last.size() >= end.size() && last.compare(last.size() - end.size(), end.size(), end) == 0;
    })) << "expected "
        << end << ", saw " << last;
  }

  // The store as the test itself sees it.
  std::shared_ptr<kv::Store> OpenStore() const {
    auto store = kv::Open(url());
    EXPECT_TRUE(store.ok()) << store.status();
    return store.ok() ? *store : nullptr;
  }

  TemporaryFolder folder_;
};

}  // namespace process_test

#endif  // TESTS_PROCESS_COPIES_H_
