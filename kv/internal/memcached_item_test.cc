// How entries lie in memcached, and which servers are taken: without one.

#include "kv/internal/memcached_item.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "kv/internal/memcached_address.h"
#include "kv/internal/sha256.h"

namespace kv::internal {
namespace {

using testing::HasSubstr;

std::string Hex(std::string_view text) {
  const auto hash = Sha256(text);
  return absl::BytesToHexString(std::string(hash.begin(), hash.end()));
}

TEST(Sha256Test, GivesWhatTheStandardSays) {
  EXPECT_EQ(Hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(Hex(std::string(1000000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(ItemNameTest, IsTheKeyWhereItCanBe) {
  const ItemName name = NameItem("coord", "demo/mutex/call_42");
  EXPECT_EQ(name.text, "coord:demo/mutex/call_42");
  EXPECT_EQ(name.hashed_key, "");
}

TEST(ItemNameTest, EscapesWhatMemcachedOrALocaleTreatsSpecially) {
  EXPECT_EQ(NameItem("p", "a b").text, "p:a%20b");
  EXPECT_EQ(NameItem("p", "100%").text, "p:100%25");
  EXPECT_EQ(NameItem("p", "\xc3\xa4").text, "p:%C3%A4");
  EXPECT_EQ(NameItem("p", "a\r\nflush_all").text, "p:a%0D%0Aflush_all");
  EXPECT_EQ(NameItem("p", "a:b").text, "p:a:b");
}

TEST(ItemNameTest, LongKeysEndInAHashAndStayApart) {
  std::set<std::string> names;
  std::vector<std::string> keys;
  for (const size_t size : {244, 245, 246, 300, 511, 512}) {
    keys.push_back(std::string(size, 'k'));
    keys.push_back(std::string(size - 1, 'k') + "x");
    keys.push_back("x" + std::string(size - 1, 'k'));
    keys.push_back(std::string(size - 1, 'k') + " ");
  }
  for (const std::string& key : keys) {
    const ItemName name = NameItem("coord", key);
    EXPECT_LE(name.text.size(), kMaxItemName);
    EXPECT_EQ(name.text.find(' '), std::string::npos);
    EXPECT_TRUE(names.insert(name.text).second) << "two keys have the name " << name.text;
    EXPECT_EQ(name.hashed_key.empty(), name.text.find("%#") == std::string::npos);
    EXPECT_TRUE(name.hashed_key.empty() || name.hashed_key == key);
  }
  EXPECT_EQ(NameItem("coord", std::string(244, 'k')).text.size(), kMaxItemName);
  EXPECT_EQ(NameItem("coord", std::string(244, 'k')).hashed_key, "");
  // The beginning stays readable.
  EXPECT_EQ(NameItem("coord", "demo/mutex/" + std::string(400, 'k')).text.substr(0, 17), "coord:demo/mutex/");
}

// No key can be written that has the name of another, hashed one.
TEST(ItemNameTest, AHashedNameIsNoPlainOne) {
  const std::string hashed = NameItem("p", std::string(300, 'k')).text;
  EXPECT_NE(NameItem("p", hashed.substr(2)).text, hashed);
}

TEST(ItemNameTest, PrefixesAreApartEvenWhereOneBeginsWithTheOther) {
  const auto name = [](const std::string& prefix, const std::string& key) {
    return NameItem(*EscapeItemPrefix(prefix), key).text;
  };
  EXPECT_NE(name("a", "b/c"), name("a/b", "c"));
  EXPECT_NE(name("a", "b:c"), name("a:b", "c"));
  EXPECT_NE(name("", "a:c"), name("a", "c"));
}

TEST(ItemPrefixTest, HasALimit) {
  EXPECT_TRUE(EscapeItemPrefix(std::string(64, 'p')).ok());
  const auto refused = EscapeItemPrefix(std::string(22, ' '));
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("66 bytes, escaped ones counted as three; the limit"));
}

TEST(ItemTest, ComesBackAsItWasWritten) {
  const std::string value("a\0\r\nEND\r\n\xff", 11);
  for (const std::string& key : {std::string("short"), std::string(400, 'k')}) {
    const ItemName name = NameItem("p", key);
    const auto entry = DecodeItem(name, EncodeItem(name, 1733000000000000, value));
    ASSERT_TRUE(entry.ok()) << entry.status();
    EXPECT_EQ(entry->value, value);
    EXPECT_EQ(entry->revision, 1733000000000000u);
  }
}

// The bytes of version 1.0, which every later version must read.
TEST(ItemTest, HasThisForm) {
  EXPECT_EQ(EncodeItem(NameItem("p", "k"), 7, "value"), "coord-kv/1.0 7 0\nvalue");
  const std::string key(300, 'k');
  EXPECT_EQ(EncodeItem(NameItem("p", key), 7, "value"), "coord-kv/1.0 7 300\n" + key + "value");
}

TEST(ItemTest, ANewerMinorVersionIsRead) {
  const auto entry = DecodeItem(NameItem("p", "k"), "coord-kv/1.9 7 0 more=of it\nvalue");
  ASSERT_TRUE(entry.ok()) << entry.status();
  EXPECT_EQ(entry->value, "value");
  EXPECT_EQ(entry->revision, 7u);
}

TEST(ItemTest, ANewerMajorVersionIsRefused) {
  for (const char* bytes : {"coord-kv/2.1\nvalue", "coord-kv/2.1 in quite another form"}) {
    const auto newer = DecodeItem(NameItem("p", "k"), bytes);
    EXPECT_EQ(newer.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(newer.status().message()), HasSubstr("version 2.1, which a newer version of this library"));
  }
}

TEST(ItemTest, WhatIsNotOursIsToldApart) {
  for (const char* bytes : {"", "hello", "coord-kv/", "coord-kv/1.0\n", "coord-kv/1.0 7\nv", "coord-kv/1.0 0 0\nv",
                            "coord-kv/1.0 x 0\nv", "coord-kv/1.0 7 9\nv", "coord-kv/1.0 18446744073709551615 0\nv",
                            "coord-kv/x.0 7 0\nv", "coord-kv/0.9 7 0\nv", "coord-kv/1 7 0\nv"}) {
    const auto entry = DecodeItem(NameItem("p", "k"), bytes);
    EXPECT_EQ(entry.status().code(), absl::StatusCode::kDataLoss) << bytes;
    EXPECT_THAT(std::string(entry.status().message()), HasSubstr("the item \"p:k\" is not one of this store's"));
  }
}

TEST(ItemTest, AnotherKeyOfTheSameHashIsAnErrorAndNotData) {
  const ItemName one = NameItem("p", std::string(300, 'k'));
  ItemName other = one;
  other.hashed_key.back() = 'x';
  const auto entry = DecodeItem(one, EncodeItem(other, 7, "secret"));
  EXPECT_EQ(entry.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(entry.status().message()), HasSubstr("belongs to another key of the same hash"));
}

std::string ParseError(const std::string& server) {
  const auto address = ParseMemcachedAddress(server);
  EXPECT_EQ(address.status().code(), absl::StatusCode::kInvalidArgument) << server;
  return std::string(address.status().message());
}

TEST(MemcachedAddressTest, TakesOneServer) {
  EXPECT_EQ(ParseMemcachedAddress("cache.example:1234")->Text(), "cache.example:1234");
  EXPECT_EQ(ParseMemcachedAddress("10.0.0.1")->Text(), "10.0.0.1:11211");
  EXPECT_EQ(ParseMemcachedAddress("[::1]:1234")->Text(), "[::1]:1234");
  EXPECT_EQ(ParseMemcachedAddress("[::1]:1234")->host, "::1");
}

TEST(MemcachedAddressTest, RefusesAListWithTheReason) {
  for (const char* list : {"a:1,b:2", "a:1, b:2", "a:1 b:2", "a:1;b:2"}) {
    EXPECT_THAT(ParseError(list), HasSubstr("a store is on one memcached server, because revisions of several are "
                                            "unrelated"));
  }
}

TEST(MemcachedAddressTest, RefusesWhatIsNoAddress) {
  EXPECT_THAT(ParseError("/run/memcached.sock"), HasSubstr("Unix sockets are not supported"));
  EXPECT_THAT(ParseError(""), HasSubstr("no host"));
  EXPECT_THAT(ParseError(":11211"), HasSubstr("no host"));
  for (const char* bad : {"a:", "a:0", "a:65536", "a:x", "::1", "[::1]1"}) {
    EXPECT_THAT(ParseError(bad), testing::AnyOf(HasSubstr("the port is not a number"), HasSubstr("no host")));
  }
  EXPECT_THAT(ParseError("[::1"), HasSubstr("the ] is missing"));
  for (const std::string& bad :
       {std::string("[[]"), std::string("a\0b", 3), std::string("a\n:1"), std::string("u@h")}) {
    EXPECT_THAT(ParseError(bad), HasSubstr("the host has characters that no host name has"));
  }
}

TEST(MemcachedAddressTest, RefusesANameThatMayBeSeveralServers) {
  const MemcachedAddress name = {"cache.example", 11211};
  EXPECT_TRUE(CheckOneServer(name, {"10.0.0.1"}).ok());
  EXPECT_TRUE(CheckOneServer(name, {"10.0.0.1", "fd00::1"}).ok());
  const absl::Status refused = CheckOneServer(name, {"10.0.0.1", "10.0.0.2"});
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("several addresses (10.0.0.1, 10.0.0.2)"));
}

TEST(MemcachedAddressTest, LocalhostIsOneServer) {
  const MemcachedAddress localhost = {"localhost", 11211};
  const auto resolved = ResolveMemcachedAddress(localhost);
  ASSERT_TRUE(resolved.ok()) << resolved.status();
  EXPECT_TRUE(CheckOneServer(localhost, *resolved).ok());
}

}  // namespace
}  // namespace kv::internal
