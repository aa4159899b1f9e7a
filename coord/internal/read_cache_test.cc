#include "coord/internal/read_cache.h"

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "kv/internal/mutex.h"

namespace coord::internal {
namespace {

class Number {
 public:
  void Set(std::shared_ptr<const int> value) {
    kv::internal::MutexLock lock(mu_);
    value_ = std::move(value);
    cache_.Changed();
  }
  std::shared_ptr<const int> Get() const {
    return cache_.Get([this] {
      ++loads;
      kv::internal::MutexLock lock(mu_);
      return value_;
    });
  }
  mutable std::atomic<int> loads{0};

 private:
  mutable kv::internal::Mutex mu_;
  std::shared_ptr<const int> value_ KV_GUARDED_BY(mu_);
  ReadCache<int> cache_;
};

TEST(ReadCache, LoadsOncePerChangeAndThread) {
  Number number;
  EXPECT_EQ(number.Get(), nullptr);
  EXPECT_EQ(number.Get(), nullptr);
  EXPECT_EQ(number.loads, 1) << "null is a value too";
  number.Set(std::make_shared<int>(1));
  std::shared_ptr<const int> held = number.Get();
  EXPECT_EQ(*held, 1);
  EXPECT_EQ(number.Get(), held);
  EXPECT_EQ(number.loads, 2);
  std::thread([&] { EXPECT_EQ(*number.Get(), 1); }).join();
  EXPECT_EQ(number.loads, 3);
  number.Set(std::make_shared<int>(2));
  EXPECT_EQ(*number.Get(), 2);
  EXPECT_EQ(*held, 1);
}

TEST(ReadCache, CachesThatShareASlotAreNotMixedUp) {
  std::vector<std::unique_ptr<Number>> numbers;
  for (int i = 0; i < 40; ++i) {
    numbers.push_back(std::make_unique<Number>());
    numbers.back()->Set(std::make_shared<int>(i));
  }
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 40; ++i) EXPECT_EQ(*numbers[i]->Get(), i);
  }
}

TEST(ReadCache, AReplacedValueIsFreedWhenItsReadersReadOn) {
  Number number;
  auto first = std::make_shared<const int>(1);
  std::weak_ptr<const int> seen = first;
  number.Set(std::move(first));
  number.Get();
  std::thread([&] { number.Get(); }).join();
  number.Set(std::make_shared<int>(2));
  EXPECT_FALSE(seen.expired()) << "kept by this thread until it reads again";
  number.Get();
  EXPECT_TRUE(seen.expired());
}

TEST(ReadCache, ReadersNeverGoBack) {
  Number number;
  number.Set(std::make_shared<int>(0));
  std::atomic<bool> done{false};
  std::vector<std::thread> readers;
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([&] {
      int last = 0;
      while (!done) {
        const int now = *number.Get();
        ASSERT_GE(now, last);
        last = now;
      }
    });
  }
  for (int i = 1; i <= 2000; ++i) {
    number.Set(std::make_shared<int>(i));
    ASSERT_EQ(*number.Get(), i);
  }
  done = true;
  for (std::thread& reader : readers) reader.join();
}

}  // namespace
}  // namespace coord::internal
