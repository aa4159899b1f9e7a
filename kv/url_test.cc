#include "kv/url.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace kv {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

TEST(ParseUrlTest, Parts) {
  const auto url = ParseUrl("NATS://u:p@h1:4222,h2/x%20y?bucket=b%26c&replicas=3");
  ASSERT_TRUE(url.ok()) << url.status();
  EXPECT_EQ(url->scheme, "nats");
  EXPECT_EQ(url->authority, "u:p@h1:4222,h2");
  EXPECT_EQ(url->path, "/x y");
  EXPECT_EQ(url->Parameter("bucket"), "b&c");
  EXPECT_EQ(url->Parameter("replicas"), "3");
  EXPECT_EQ(url->Parameter("other"), std::nullopt);
  EXPECT_FALSE(ParseUrl("sqlite:a")->authority.has_value());
  EXPECT_EQ(ParseUrl("sqlite:a:b@c.db")->path, "a:b@c.db");
  EXPECT_EQ(ParseUrl("sqlite:a.db?sync=")->Parameter("sync"), "");
}

TEST(ParseUrlTest, RefusalsAreSentences) {
  const auto error = [](std::string_view url) { return std::string(ParseUrl(url).status().message()); };
  EXPECT_EQ(error(""), "the URL is empty; a simple one is sqlite:");
  EXPECT_EQ(error("/var/lib/coord.db"), "the URL has no scheme; write, for example, sqlite:PATH");
  EXPECT_EQ(error("1x:a"), "the URL has no scheme; write, for example, sqlite:PATH");
  EXPECT_EQ(error("sqlite:a\nb"), "the URL has a control character");
  EXPECT_EQ(error(std::string_view("sqlite:a\0b", 10)), "the URL has a control character");
  EXPECT_EQ(error("sqlite:100%"), "the URL has a '%' that no two hexadecimal digits follow; write '%25'");
  EXPECT_EQ(error("sqlite:%g0"), "the URL has a '%' that no two hexadecimal digits follow; write '%25'");
  EXPECT_EQ(error("sqlite:a%00b"), "the URL has an escaped NUL character");
  EXPECT_EQ(error("sqlite:a#b"), "the URL has a '#'; in a path write it as '%23'");
  EXPECT_EQ(error("sqlite:a?sync"), "the URL has a query parameter that is not of the form name=value");
  EXPECT_EQ(error("sqlite:a?=full"), "the URL has a query parameter that is not of the form name=value");
  EXPECT_EQ(error("sqlite:a?sync=full&sync=normal"), "the URL gives the parameter \"sync\" twice");
}

// "se?cr=et" and "se?cr=e&cr=t": what stands after the '?' looks like parameters.
TEST(ParseUrlTest, APieceOfAPasswordIsNotTakenForTheNameOfAParameter) {
  const auto url = ParseUrl("nats://u:se?cr=et@h");
  ASSERT_TRUE(url.ok()) << url.status();
  EXPECT_EQ(
      url->CheckParameters({"bucket"}),
      absl::InvalidArgumentError("the URL has an unknown parameter, which is not shown, for it may be a piece of a "
                                 "password, where a '?' is written as '%3F'; known for nats: bucket"));
  EXPECT_EQ(
      ParseUrl("nats://u:se?cr=e&cr=t@h").status(),
      absl::InvalidArgumentError("the URL gives a parameter twice, which is not shown, for it may be a piece of a "
                                 "password, where a '?' is written as '%3F'"));
  EXPECT_THAT(std::string(ParseUrl("nats://u:p@ss?wo=rd@h")->CheckParameters({}).message()), Not(HasSubstr("\"wo\"")));
  EXPECT_EQ(ParseUrl("sqlite:a?x=a@b")->CheckParameters({"sync"}),
            absl::InvalidArgumentError("the URL has the unknown parameter \"x\"; known for sqlite: sync"));
}

absl::StatusOr<Authority> Authorities(const std::string& url) {
  const auto parsed = ParseUrl(url);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return ParseAuthority(*parsed, 4222);
}

TEST(ParseAuthorityTest, HostsAndPorts) {
  const auto servers = [](const std::string& url) { return Authorities(url).value().servers; };
  EXPECT_THAT(servers("nats://localhost"), ElementsAre("localhost:4222"));
  EXPECT_THAT(servers("nats://localhost/"), ElementsAre("localhost:4222"));
  EXPECT_THAT(servers("nats://a.example.com:1,b_2,10.0.0.1:65535?bucket=b"),
              ElementsAre("a.example.com:1", "b_2:4222", "10.0.0.1:65535"));
  EXPECT_THAT(servers("nats://[::1],[fe80::1]:7"), ElementsAre("[::1]:4222", "[fe80::1]:7"));
}

TEST(ParseAuthorityTest, UserAndPassword) {
  const auto plain = Authorities("nats://u:p@h1,h2");
  EXPECT_EQ(plain->user, "u");
  EXPECT_EQ(plain->password, "p");
  EXPECT_THAT(plain->servers, ElementsAre("h1:4222", "h2:4222"));
  const auto escaped = Authorities("nats://a%40b:%3A%2F%3F%25%20@[::1]");
  EXPECT_EQ(escaped->user, "a@b");
  EXPECT_EQ(escaped->password, ":/?% ");
  EXPECT_EQ(Authorities("nats://u@h")->user, "u");
  EXPECT_EQ(Authorities("nats://u@h")->password, std::nullopt);
  EXPECT_EQ(Authorities("nats://u:@h")->password, "");
  EXPECT_EQ(Authorities("nats://u:a:b@h")->password, "a:b");
  EXPECT_EQ(Authorities("nats://h")->user, std::nullopt);
}

TEST(ParseAuthorityTest, RefusalsAreSentences) {
  const auto error = [](const std::string& url) { return std::string(Authorities(url).status().message()); };
  EXPECT_EQ(error("nats:"), "the nats URL names no server: write nats://HOST:4222");
  EXPECT_EQ(error("nats:h:4222"), "the nats URL names no server: write nats://HOST:4222");
  EXPECT_EQ(error("nats://?bucket=b"), "the nats URL names no server: write nats://HOST:4222");
  EXPECT_EQ(error("nats:///"), "the nats URL names no server: write nats://HOST:4222");
  EXPECT_EQ(error("nats://h/bucket"),
            "the nats URL has a path, which no server has; a '/' in a user or a password is written as '%2F'");
  EXPECT_EQ(error("nats://h,"), "the nats URL lacks a host; between two commas, and before a ':' or '/', stands one");
  EXPECT_EQ(error("nats://u:p@"), "the nats URL lacks a host; between two commas, and before a ':' or '/', stands one");
  EXPECT_EQ(error("nats://:4222"),
            "the nats URL lacks a host; between two commas, and before a ':' or '/', stands one");
  EXPECT_EQ(error("nats://a b"), "the nats URL has a host with characters that no host name has");
  EXPECT_EQ(error("nats://a%20b"), "the nats URL has a host with characters that no host name has");
  for (const char* port : {"", "0", "65536", "x", "-1", "+1", "99999999999999999999", " 1"}) {
    EXPECT_EQ(error(std::string("nats://h:") + port), "the nats URL has a port that is no number from 1 to 65535");
  }
  EXPECT_EQ(error("nats://[::1]x"), "the nats URL has a port that is no number from 1 to 65535");
  EXPECT_EQ(error("nats://[::1"), "the nats URL has brackets around what is no IPv6 address");
  EXPECT_EQ(error("nats://[h]:1"), "the nats URL has brackets around what is no IPv6 address");
  EXPECT_THAT(error("nats://::1"), HasSubstr("an IPv6 address stands in brackets"));
  EXPECT_EQ(error("nats://:p@h"), "the nats URL has an '@' and no user before it");
  EXPECT_EQ(error("nats://@h"), "the nats URL has an '@' and no user before it");
  EXPECT_THAT(error("nats://u:p@h1,u:p@h2"), HasSubstr("user and password stand once, before the first host"));
  EXPECT_EQ(error("nats://u:%g1@h"), "the URL has a '%' that no two hexadecimal digits follow; write '%25'");
}

// Wherever a piece of a password ends up, it is not printed.
TEST(ParseAuthorityTest, RefusalsRepeatNothing) {
  for (const char* url : {"nats://u:a/hunter2@h", "nats://u:hunter2", "nats://u:a@hunter2:x@h", "nats://u:hunter2/@h",
                          "nats://u:hunter2%zz@h", "nats://hunter2:x:y"}) {
    const std::string error(Authorities(url).status().message());
    EXPECT_NE(error, "");
    EXPECT_EQ(error.find("hunter2"), std::string::npos) << error;
  }
}

}  // namespace
}  // namespace kv
