#include "kv/internal/nats_probe.h"

#include <gtest/gtest.h>

#include <string>

namespace kv::internal {
namespace {

TEST(NatsProbeTest, ReadsTheFirstLine) {
  const auto info = ParseNatsInfo(
      R"(INFO {"server_id":"N","version":"2.9.10","headers":true,"max_payload":65536,"tls_required":true,"x":[1]} )");
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->version, "2.9.10");
  EXPECT_EQ(info->max_payload, 65536u);
  EXPECT_TRUE(info->headers);
  EXPECT_TRUE(info->tls_required);
  EXPECT_FALSE(info->tls_available);
}

TEST(NatsProbeTest, RefusesWhatIsNotNats) {
  for (const std::string line : {"", "INFO", "INFO ", "INFO {", "INFO []", "INFO {}", "INFO {\"version\":1}", "+OK",
                                 "info {\"version\":\"2.9.10\"}"}) {
    EXPECT_EQ(ParseNatsInfo(line).status().code(), absl::StatusCode::kFailedPrecondition) << line;
  }
  // Fields of another type count as absent.
  const auto info = ParseNatsInfo(R"(INFO {"version":"2.9.10","max_payload":"x","headers":1,"tls_required":null})");
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(info->max_payload, 0u);
  EXPECT_FALSE(info->headers);
}

TEST(NatsProbeTest, ComparesVersions) {
  EXPECT_TRUE(NatsVersionAtLeast("2.9.0", 2, 9));
  EXPECT_TRUE(NatsVersionAtLeast("2.10.27", 2, 9));
  EXPECT_TRUE(NatsVersionAtLeast("3.0.0", 2, 9));
  EXPECT_TRUE(NatsVersionAtLeast("2.15.1-RC.2", 2, 9));
  EXPECT_FALSE(NatsVersionAtLeast("2.8.4", 2, 9));
  EXPECT_FALSE(NatsVersionAtLeast("1.10.0", 2, 9));
  EXPECT_FALSE(NatsVersionAtLeast("", 2, 9));
  EXPECT_FALSE(NatsVersionAtLeast("two.nine", 2, 9));
}

TEST(NatsProbeTest, SplitsAddresses) {
  const auto parts = SplitHostPort("nats-1.example.com:4222");
  ASSERT_TRUE(parts.ok());
  EXPECT_EQ(parts->host, "nats-1.example.com");
  EXPECT_EQ(parts->port, "4222");
  const auto six = SplitHostPort("[fe80::1%eth0]:65535");
  ASSERT_TRUE(six.ok());
  EXPECT_EQ(six->host, "fe80::1%eth0");
  for (const std::string bad : {"", ":", "a", "a:", ":1", "a:0", "a:65536", "a:-1", "a:+1", "a:1 ", "[]:1", "[::1]",
                                "::1:1", "user:password@a:1", "nats://a:1", "a/b:1"}) {
    EXPECT_EQ(SplitHostPort(bad).status(), absl::InvalidArgumentError("a server's address must be written host:port"))
        << bad;
  }
}

}  // namespace
}  // namespace kv::internal
