// Every system library that the build offers compiles, links and runs.

#include <benchmark/benchmark.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>
#include <libmemcached/memcached.h>
#include <nats/nats.h>
#include <openssl/crypto.h>
#include <sqlite3.h>
#include <unicode/unistr.h>

#include <nlohmann/json.hpp>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/random/random.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"

ABSL_FLAG(absl::Duration, wait, absl::Seconds(1), "a flag of a type with a parser");

namespace {

using ::testing::UnorderedElementsAre;

TEST(SystemLibraries, Abseil) {
  const absl::StatusOr<std::string> text = absl::StrCat("a", 1, absl::StrFormat("%02d", 2));
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(*text, "a102");
  EXPECT_EQ(absl::NotFoundError("no such key").ToString(), "NOT_FOUND: no such key");
  const absl::flat_hash_set<std::string> words = {"one", "two"};
  EXPECT_THAT(words, UnorderedElementsAre("one", "two"));
  const absl::flat_hash_map<std::string, int> numbers = {{"one", 1}};
  EXPECT_EQ(numbers.at("one"), 1);
  absl::BitGen random;
  EXPECT_LT(absl::Uniform(random, 0, 10), 10);
  EXPECT_EQ(absl::FormatDuration(absl::GetFlag(FLAGS_wait)), "1s");
}

TEST(SystemLibraries, Sqlite) { EXPECT_GE(sqlite3_libversion_number(), 3035000); }

TEST(SystemLibraries, Icu) {
  icu::UnicodeString word = icu::UnicodeString::fromUTF8("GRÜSSE");
  std::string folded;
  word.foldCase().toUTF8String(folded);
  EXPECT_EQ(folded, "grüsse");
}

TEST(SystemLibraries, OpenSsl) { EXPECT_GE(OpenSSL_version_num(), 0x30000000u); }

TEST(SystemLibraries, Json) { EXPECT_EQ(nlohmann::json::parse("{\"a\":[1,2]}")["a"].size(), 2u); }

TEST(SystemLibraries, Httplib) {
  httplib::Server server;
  EXPECT_GT(server.bind_to_any_port("127.0.0.1"), 0);
}

TEST(SystemLibraries, Nats) { EXPECT_EQ(nats_GetVersionNumber() >> 16, 3u); }

TEST(SystemLibraries, Memcached) {
  memcached_st* const memcached = memcached_create(nullptr);
  ASSERT_NE(memcached, nullptr);
  EXPECT_EQ(memcached_server_count(memcached), 0u);
  memcached_free(memcached);
}

TEST(SystemLibraries, Benchmark) { EXPECT_FALSE(benchmark::CPUInfo::Get().num_cpus <= 0); }

}  // namespace
