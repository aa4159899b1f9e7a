#include "kv/internal/nats_keys.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <vector>

namespace kv::internal {
namespace {

// Of each kind of byte some, and those that matter to keys, subjects and the protocol more often.
std::string RandomKey(std::mt19937& random) {
  static const std::string kBytes("aA0-_/./.=*>\r\n \t$%2F\x7f\x80\xff\0", 24);
  std::string key;
  const size_t size = random() % 12;
  while (key.size() < size) {
    key += random() % 8 == 0 ? static_cast<char>(random() % 256) : kBytes[random() % kBytes.size()];
  }
  return key;
}

// What a server takes for one subject: no empty token, no wildcard, nothing but harmless bytes.
bool IsLiteralSubject(const std::string& subject) {
  bool begins = true;
  for (const char c : subject) {
    if (c == '.') {
      if (begins) return false;
      begins = true;
      continue;
    }
    begins = false;
    const bool harmless =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '=';
    if (!harmless) return false;
  }
  return !begins;
}

bool Matches(std::string_view filter, std::string_view subject) {
  if (filter == ">") return true;
  return subject.size() > filter.size() - 1 &&
         subject.substr(0, filter.size() - 1) == filter.substr(0, filter.size() - 1);
}

TEST(NatsKeys, Examples) {
  EXPECT_EQ(EncodeKey("a"), "a");
  EXPECT_EQ(EncodeKey("demo/mutex/m-1_x"), "demo.mutex.m-1_x");
  EXPECT_EQ(EncodeKey("a.b"), "a=2Eb");
  EXPECT_EQ(EncodeKey("a=b"), "a=3Db");
  EXPECT_EQ(EncodeKey("/a//b/"), "=.a.=.b.=");
  EXPECT_EQ(EncodeKey("*"), "=2A");
  EXPECT_EQ(EncodeKey(">"), "=3E");
  EXPECT_EQ(EncodeKey("a b\r\nPUB x 0"), "a=20b=0D=0APUB=20x=200");
  EXPECT_EQ(EncodeKey("\xc3\xa4"), "=C3=A4");
  EXPECT_EQ(EncodeKey(".."), "=2E=2E");
  EXPECT_EQ(EncodeKey(""), "=");
}

TEST(NatsKeys, EveryKeyHasOneSubjectOfItsOwn) {
  const unsigned seed = std::random_device()();
  std::mt19937 random(seed);
  std::map<std::string, std::string> keys;
  for (int i = 0; i < 200000; ++i) {
    const std::string key = RandomKey(random);
    const std::string subject = EncodeKey(key);
    ASSERT_TRUE(IsLiteralSubject(subject)) << "seed " << seed << ": " << subject;
    ASSERT_LE(subject.size(), 3 * key.size() + 1) << "seed " << seed;
    const auto decoded = DecodeKey(subject);
    ASSERT_TRUE(decoded.has_value()) << "seed " << seed << ": " << subject;
    ASSERT_EQ(*decoded, key) << "seed " << seed << ": " << subject;
    const auto [it, is_new] = keys.emplace(subject, key);
    ASSERT_TRUE(is_new || it->second == key) << "seed " << seed << ": two keys have the subject " << subject;
  }
}

TEST(NatsKeys, WhatIsNobodysKeyIsRefused) {
  for (const char* subject : {"",  ".", "a.",  ".a",  "a..b", "a=",  "a=2", "a=2e", "=61", "=2F",      "=.=a", "a b",
                              "*", ">", "a.>", "a/b", "=2D",  "=5F", "=30", "==",   "=3",  "\xc3\xa4", "a$"}) {
    EXPECT_FALSE(DecodeKey(subject).has_value()) << subject;
  }
}

// Whatever the subject: either it is nobody's, or the key that it gives has that very subject.
TEST(NatsKeys, DecodingIsTheExactInverse) {
  const unsigned seed = std::random_device()();
  std::mt19937 random(seed);
  static const std::string kBytes = "aZ09-_.=23456789ABCDEFabcdef>*/ ";
  int keys = 0;
  for (int i = 0; i < 500000; ++i) {
    std::string subject;
    const size_t size = random() % 8;
    while (subject.size() < size) subject += kBytes[random() % kBytes.size()];
    const auto key = DecodeKey(subject);
    if (!key.has_value()) continue;
    ++keys;
    ASSERT_EQ(EncodeKey(*key), subject) << "seed " << seed;
  }
  EXPECT_GT(keys, 1000) << "seed " << seed;
}

TEST(NatsKeys, APrefixFilterMatchesAllKeysUnderThePrefix) {
  EXPECT_EQ(EncodePrefix(""), ">");
  EXPECT_EQ(EncodePrefix("abc"), ">");
  EXPECT_EQ(EncodePrefix("a/"), "a.>");
  EXPECT_EQ(EncodePrefix("a/b.c"), "a.>");
  EXPECT_EQ(EncodePrefix("a/b.c/d"), "a.b=2Ec.>");
  EXPECT_EQ(EncodePrefix("/"), "=.>");
  const unsigned seed = std::random_device()();
  std::mt19937 random(seed);
  for (int i = 0; i < 100000; ++i) {
    const std::string key = RandomKey(random);
    const std::string prefix = key.substr(0, random() % (key.size() + 1));
    ASSERT_TRUE(Matches(EncodePrefix(prefix), EncodeKey(key)))
        << "seed " << seed << ": " << EncodePrefix(prefix) << " misses " << EncodeKey(key);
  }
}

}  // namespace
}  // namespace kv::internal
