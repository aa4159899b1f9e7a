#include "kv/store.h"

#include <gtest/gtest.h>

#include <string>

namespace kv {
namespace {

Traits Small() {
  Traits traits;
  traits.name = "small";
  traits.max_key_bytes = 8;
  traits.max_value_bytes = 4;
  return traits;
}

TEST(CheckKeyTest, TakesPrintableUtf8) {
  for (const std::string key : {"a", "12345678", "a/b c%_*", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x94\x92"}) {
    EXPECT_TRUE(CheckKey(key, Small()).ok()) << key;
  }
}

TEST(CheckKeyTest, NamesTheOffenceAndTheLimit) {
  const auto message = [](std::string_view key) {
    const absl::Status status = CheckKey(key, Small());
    EXPECT_TRUE(absl::IsInvalidArgument(status));
    return std::string(status.message());
  };
  EXPECT_EQ(message(""), "the key is empty; a key has 1 to 8 bytes");
  EXPECT_EQ(message("123456789"), "the key has 9 bytes; the limit of the small store is 8");
  EXPECT_EQ(message("ab\n"), "the key has the control character 0x0a at byte 2; keys are printable text");
  EXPECT_EQ(message(std::string_view("\0", 1)),
            "the key has the control character 0x00 at byte 0; keys are printable text");
  EXPECT_EQ(message("a\xc2\x9f"), "the key has the control character 0x9f at byte 1; keys are printable text");
  for (const char* bad : {"a\x80", "a\xc1\xbf", "a\xe0\x9f\xbf", "a\xed\xbf\xbf", "a\xf0\x8f\xbf\xbf",
                          "a\xf4\x90\x80\x80", "a\xf5\x80\x80\x80", "a\xe2\x82", "a\xf0\x9f\x94", "a\xc3("}) {
    EXPECT_EQ(message(bad), "the key is not valid UTF-8 at byte 1");
  }
}

TEST(CheckValueTest, NamesTheLimitAndNotTheValue) {
  EXPECT_TRUE(CheckValue(std::string("\0\xff\n!", 4), Small()).ok());
  EXPECT_TRUE(CheckValue("", Small()).ok());
  const absl::Status status = CheckValue("12345", Small());
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_EQ(status.message(), "the value has 5 bytes; the limit of the small store is 4");
}

}  // namespace
}  // namespace kv
