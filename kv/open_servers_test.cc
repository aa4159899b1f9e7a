// Stores opened by URL at real servers.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "kv/open.h"
#include "kv/test_util.h"
#include "tests/servers/servers.h"

namespace kv {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr absl::Duration kPatience = absl::Seconds(20);

std::unique_ptr<servers::NatsServer> Nats(const std::string& config) {
  servers::NatsServerOptions options;
  options.config = config;
  auto server = servers::NatsServer::Run(options);
  EXPECT_TRUE(server.ok()) << server.status();
  return server.ok() ? *std::move(server) : nullptr;
}

void ExpectWorks(const std::string& url) {
  const auto store = Open(url, kPatience);
  ASSERT_TRUE(store.ok()) << RedactUrl(url) << ": " << store.status();
  ASSERT_TRUE((*store)->Put("a", "1", Soon()).ok());
  EXPECT_EQ((*store)->Get("a", Soon())->value, "1");
  EXPECT_EQ((*store)->connection(), Connection::kConnected);
}

TEST(OpenServersTest, NatsWithAPasswordFromAllPlaces) {
  const auto server = Nats("authorization { user: \"al@ice\", password: \"h/nter2\" }");
  ASSERT_NE(server, nullptr);
  const TempDir folder;
  std::ofstream(folder / "pw") << "h/nter2\n";
  setenv("OPEN_SERVERS_TEST", "h/nter2", 1);
  const std::string start = absl::StrCat("nats://al%40ice@", server->address());
  ExpectWorks(absl::StrCat(start, "?password_file=", folder / "pw"));
  ExpectWorks(start + "?password_env=OPEN_SERVERS_TEST");
  ExpectWorks(absl::StrCat("nats://al%40ice:h%2Fnter2@", server->address(), "?bucket=other&storage=memory"));

  for (const std::string& url :
       {absl::StrCat("nats://al%40ice:hunter3@", server->address()), absl::StrCat("nats://", server->address())}) {
    const auto refused = Open(url, kPatience);
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kPermissionDenied) << refused.status();
    EXPECT_THAT(std::string(refused.status().message()),
                AllOf(HasSubstr(server->address()), Not(HasSubstr("hunter3"))));
  }
}

TEST(OpenServersTest, NatsWithAToken) {
  const auto server = Nats("authorization { token: hunter2 }");
  ASSERT_NE(server, nullptr);
  setenv("OPEN_SERVERS_TEST", "hunter2", 1);
  ExpectWorks(absl::StrCat("nats://", server->address(), "?token_env=OPEN_SERVERS_TEST"));
  ExpectWorks(absl::StrCat("nats://", server->address(), "?token=hunter2"));
}

TEST(OpenServersTest, StoresOfOneProcessAtOneServerShareItsConnection) {
  const auto server = Nats("");
  ASSERT_NE(server, nullptr);
  const std::string url = absl::StrCat("nats://", server->address());
  const auto one = Open(url + "?bucket=one", kPatience);
  const auto two = Open(url + "?bucket=two", kPatience);
  ASSERT_TRUE(one.ok() && two.ok()) << one.status() << two.status();
  EXPECT_EQ(server->Varz("connections").value(), 1);
  ASSERT_TRUE((*one)->Put("a", "1", Soon()).ok());
  EXPECT_TRUE(absl::IsNotFound((*two)->Get("a", Soon()).status()));
}

TEST(OpenServersTest, MemcachedWithPrefixes) {
  const auto server = servers::MemcachedServer::Run();
  ASSERT_TRUE(server.ok()) << server.status();
  const std::string url = absl::StrCat("memcached://", (*server)->address());
  ExpectWorks(url);
  const auto one = Open(url + "?prefix=one", kPatience);
  const auto two = Open(url + "?prefix=two", kPatience);
  ASSERT_TRUE(one.ok() && two.ok()) << one.status() << two.status();
  ASSERT_TRUE((*one)->Put("a", "1", Soon()).ok());
  EXPECT_TRUE(absl::IsNotFound((*two)->Get("a", Soon()).status()));
}

TEST(OpenServersTest, NoServerIsUnavailable) {
  const auto port = servers::FreePort();
  ASSERT_TRUE(port.ok());
  for (const char* scheme : {"nats", "memcached"}) {
    const std::string address = absl::StrCat("127.0.0.1:", *port);
    const auto store = Open(absl::StrCat(scheme, "://", address), kPatience);
    EXPECT_EQ(store.status().code(), absl::StatusCode::kUnavailable) << store.status();
    EXPECT_THAT(std::string(store.status().message()), HasSubstr(address));
  }
}

}  // namespace
}  // namespace kv
