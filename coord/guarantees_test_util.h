// For the tests of the guarantee table, with and without servers.

#ifndef COORD_GUARANTEES_TEST_UTIL_H_
#define COORD_GUARANTEES_TEST_UTIL_H_

#include <gtest/gtest.h>

#include <string>
#include <tuple>

#include "coord/guarantees.h"
#include "kv/open.h"

namespace coord::testing {

inline auto Promised(const kv::Traits& traits) {
  return std::make_tuple(traits.name, traits.durable, traits.linearizable_reads, traits.monotonic_revisions,
                         traits.watch, traits.list, traits.age, traits.evicting, traits.volatile_storage,
                         traits.proves_incarnation);
}

// The store that `url` opens states the traits of the row `row`.
inline void ExpectRow(const std::string& url, const std::string& row) {
  SCOPED_TRACE(row);
  const absl::StatusOr<std::shared_ptr<kv::Store>> store = kv::Open(url, absl::Seconds(20));
  ASSERT_TRUE(store.ok()) << store.status();
  const Guarantees* const found = FindGuarantees((*store)->traits());
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->url, row);
  EXPECT_EQ(Promised(found->traits), Promised((*store)->traits()));
}

}  // namespace coord::testing

#endif  // COORD_GUARANTEES_TEST_UTIL_H_
