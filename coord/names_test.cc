#include "coord/names.h"

#include <random>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coord {
namespace {

using ::testing::HasSubstr;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

TEST(CheckPluginId, AcceptsTheAllowedCharacters) {
  EXPECT_TRUE(CheckPluginId("com.example.trigger_words-2").ok());
  EXPECT_TRUE(CheckPluginId(std::string(64, 'x')).ok());
}

TEST(CheckPluginId, RefusesEverythingElseWithASentence) {
  const std::string allowed = "use 1 to 64 of the characters A-Z a-z 0-9 . _ -";
  EXPECT_EQ(CheckPluginId(""), absl::InvalidArgumentError("plugin id is empty: " + allowed));
  EXPECT_EQ(CheckPluginId("a/b"),
            absl::InvalidArgumentError("plugin id \"a/b\" has a character that is not allowed: " + allowed));
  EXPECT_THAT(Message(CheckPluginId(std::string(65, 'x'))), HasSubstr("has 65 bytes: " + allowed));
  for (const std::string bad : {"../x", "*", ">", "a b", "a\nb", "\xc3\xa4", "a%2Fb"}) {
    EXPECT_EQ(CheckPluginId(bad).code(), absl::StatusCode::kInvalidArgument) << bad;
  }
  EXPECT_FALSE(CheckPluginId(std::string("a\0b", 3)).ok());
}

TEST(CheckName, AcceptsNamesWithLevelsAndOtherScripts) {
  for (const std::string good : {"orders", "call_x1/state", "a b", "\xe2\x82\xac", "100%", "a:b", "...", ".a/b."}) {
    EXPECT_TRUE(CheckName("lock name", good).ok()) << good;
  }
  EXPECT_TRUE(CheckName("lock name", std::string(128, 'x')).ok());
}

TEST(CheckName, SaysWhatIsWrong) {
  const auto message = [](const std::string& name) {
    const absl::Status status = CheckName("lock name", name);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << name;
    return Message(status);
  };
  EXPECT_EQ(message(""), "lock name is empty: give it 1 to 128 bytes of UTF-8");
  EXPECT_THAT(message(std::string(129, 'x')), HasSubstr("has 129 bytes: at most 128 are allowed"));
  EXPECT_EQ(message("a\xff"), "lock name \"a\\xFF\" is not valid UTF-8: encode it as UTF-8");
  EXPECT_EQ(message("a\nb"), "lock name \"a\\x0Ab\" has a control character: remove it");
  EXPECT_THAT(message(std::string("a\0b", 3)), HasSubstr("has a control character"));
  EXPECT_THAT(message("a\xc2\x9b"), HasSubstr("has a control character"));  // CSI
  for (const std::string c : {"*", ">", "?", "\\", "\""}) {
    EXPECT_THAT(message("a" + c), HasSubstr("has the character " + c + ": * > ? \\ \" are not allowed"));
  }
  for (const std::string bad : {"/", "/a", "a/", "a//b"}) EXPECT_THAT(message(bad), HasSubstr("has an empty part"));
  for (const std::string bad : {".", "..", "../a", "a/../b", "a/."}) {
    EXPECT_THAT(message(bad), HasSubstr("has a part that is . or .."));
  }
}

TEST(CheckName, LimitsWhatEscapingMakesOfIt) {
  EXPECT_TRUE(CheckName("lock name", std::string(64, '%')).ok());
  EXPECT_THAT(
      Message(CheckName("lock name", std::string(65, '%'))),
      HasSubstr("takes 195 bytes in the store, where % / * > ? \\ \" take three each: at most 192 are allowed"));
}

TEST(CheckMapKey, AcceptsWhatANameMayNotBe) {
  for (const std::string good : {"..", "/", "*", "a\"b", "\\", "a//b"}) EXPECT_TRUE(CheckMapKey("key", good).ok());
  EXPECT_EQ(CheckMapKey("key", ""), absl::InvalidArgumentError("key is empty: give it 1 to 128 bytes of UTF-8"));
  EXPECT_THAT(Message(CheckMapKey("key", "a\tb")), HasSubstr("control character"));
  EXPECT_THAT(Message(CheckMapKey("key", std::string(65, '/'))), HasSubstr("at most 192 are allowed"));
  EXPECT_THAT(Message(CheckMapKey("key", "\xed\xa0\x80")), HasSubstr("not valid UTF-8"));  // a surrogate
  EXPECT_THAT(Message(CheckMapKey("key", "\xc0\xaf")), HasSubstr("not valid UTF-8"));      // an over-long '/'
}

TEST(EscapeName, MakesOneLevelOfAnyName) {
  EXPECT_EQ(EscapeName("call/x1"), "call%2Fx1");
  EXPECT_EQ(EscapeName("100%"), "100%25");
  EXPECT_EQ(EscapeName("*>?\\\"\n"), "%2A%3E%3F%5C%22%0A");
  EXPECT_EQ(EscapeName("\xe2\x82\xac \xff"), "\xe2\x82\xac %FF");
  EXPECT_EQ(EscapeName("\xc2\x9b"), "%C2%9B");
}

TEST(EscapeName, AnyBytesComeBack) {
  std::mt19937 random(4711);
  for (int round = 0; round < 20000; ++round) {
    std::string name;
    for (size_t length = random() % 12; name.size() < length;) {
      const char set[] = {'a', '/', '%', '2', 'F', '\xc3', '\xa4', '\x00', '\x9b', '\xe2'};
      name += random() % 4 == 0 ? static_cast<char>(random()) : set[random() % sizeof set];
    }
    const std::string escaped = EscapeName(name);
    EXPECT_EQ(escaped.find('/'), std::string::npos);
    const absl::StatusOr<std::string> back = UnescapeName(escaped);
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(*back, name);
  }
}

TEST(UnescapeName, RefusesWhatEscapeNeverMakes) {
  for (const std::string bad : {"%", "%2", "%2f", "%41", "a/b", "%GG", "a\n", "*", "\xff", "%E2%82%AC", "a%"}) {
    const absl::StatusOr<std::string> name = UnescapeName(bad);
    ASSERT_FALSE(name.ok()) << bad;
    EXPECT_EQ(name.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(Message(name.status()), HasSubstr("is not an escaped name: it was not written by coord"));
  }
}

TEST(QuoteName, IsSafeForHostileBytes) {
  EXPECT_EQ(QuoteName("orders"), "\"orders\"");
  EXPECT_EQ(QuoteName(""), "\"\"");
  EXPECT_EQ(QuoteName("a\"b\\"), "\"a\\\"b\\\\\"");
  EXPECT_EQ(QuoteName(std::string("\0\x1b[31m", 6)), "\"\\x00\\x1B[31m\"");
  EXPECT_EQ(QuoteName("\xff\xc2\x9b"), "\"\\xFF\\xC2\\x9B\"");
  EXPECT_EQ(QuoteName("\xe2\x80\xae"), "\"\\xE2\\x80\\xAE\"");  // right-to-left override
}

TEST(QuoteName, CutsAtEightyBytesBetweenCharacters) {
  EXPECT_EQ(QuoteName(std::string(80, 'x')), "\"" + std::string(80, 'x') + "\"");
  EXPECT_EQ(QuoteName(std::string(1000, 'x')), "\"" + std::string(80, 'x') + "\"...");
  EXPECT_EQ(QuoteName(std::string(79, 'x') + "\xc3\xa4"), "\"" + std::string(79, 'x') + "\"...");
  EXPECT_EQ(QuoteName(std::string(79, 'x') + "\n"), "\"" + std::string(79, 'x') + "\"...");
}

}  // namespace
}  // namespace coord
