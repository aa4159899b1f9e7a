#include "kv/internal/nats_url.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "kv/test_util.h"

namespace kv {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

absl::StatusOr<NatsUrl> Parse(const std::string& text) {
  const auto url = ParseUrl(text);
  if (!url.ok()) return url.status();
  return ParseNatsUrl(*url);
}

absl::StatusOr<NatsUrl> Read(const std::string& text) { return ReadNatsUrl(*ParseUrl(text), Soon()); }

TEST(NatsUrlTest, Defaults) {
  const auto url = Parse("nats://localhost");
  ASSERT_TRUE(url.ok()) << url.status();
  NatsOptions connection;
  connection.servers = {"localhost:4222"};
  EXPECT_TRUE(url->connection == connection);
  const NatsStoreOptions defaults;
  EXPECT_EQ(url->store.bucket, defaults.bucket);
  EXPECT_EQ(url->store.replicas, 1);
  EXPECT_TRUE(url->store.file_storage);
  EXPECT_FALSE(url->store.sync_always);
  EXPECT_EQ(url->store.delete_linger, defaults.delete_linger);
  EXPECT_TRUE(url->password.empty());
  EXPECT_TRUE(url->token.empty());
}

TEST(NatsUrlTest, Everything) {
  const auto url = Parse(
      "nats://al%69ce:p%40ss@h1:1,[::1],h3?bucket=my-b_1&replicas=3&storage=file&sync=always&delete_linger=1m30s&"
      "tls_ca=/ca.pem&tls_cert=/c.pem&tls_key=/k.pem");
  ASSERT_TRUE(url.ok()) << url.status();
  EXPECT_THAT(url->connection.servers, ElementsAre("h1:1", "[::1]:4222", "h3:4222"));
  EXPECT_EQ(url->connection.user, "alice");
  EXPECT_EQ(url->connection.password, "p@ss");
  EXPECT_TRUE(url->connection.tls);
  EXPECT_EQ(url->connection.tls_ca_file, "/ca.pem");
  EXPECT_EQ(url->connection.tls_cert_file, "/c.pem");
  EXPECT_EQ(url->connection.tls_key_file, "/k.pem");
  EXPECT_EQ(url->store.bucket, "my-b_1");
  EXPECT_EQ(url->store.replicas, 3);
  EXPECT_TRUE(url->store.sync_always);
  EXPECT_EQ(url->store.delete_linger, absl::Seconds(90));

  EXPECT_FALSE(Parse("nats://h?storage=memory")->store.file_storage);
  EXPECT_TRUE(Parse("nats://h?tls=on")->connection.tls);
  EXPECT_FALSE(Parse("nats://h?tls=off")->connection.tls);
  EXPECT_EQ(Parse("nats://h?creds=/c%20d.creds")->connection.credentials_file, "/c d.creds");
  EXPECT_EQ(Parse("nats://h?token=s3cr3t")->connection.token, "s3cr3t");
  EXPECT_EQ(Parse("nats://u:@h")->connection.user, "u");
}

TEST(NatsUrlTest, SecretsFromElsewhere) {
  const TempDir folder;
  std::ofstream(folder / "pw") << "hunter2\n";
  EXPECT_EQ(Parse("nats://u@h?password_file=" + (folder / "pw"))->connection.password, "");
  EXPECT_EQ(Read("nats://u@h?password_file=" + (folder / "pw"))->connection.password, "hunter2");
  EXPECT_EQ(Read("nats://h?token_file=" + (folder / "pw"))->connection.token, "hunter2");
  setenv("NATS_URL_TEST", "hunter3", 1);
  EXPECT_EQ(Read("nats://u@h?password_env=NATS_URL_TEST")->connection.password, "hunter3");
  EXPECT_EQ(Read("nats://h?token_env=NATS_URL_TEST")->connection.token, "hunter3");
  EXPECT_EQ(Parse("nats://u@h?password_file=-")->password.file, "-");

  const auto missing = Read("nats://u@h?password_file=" + (folder / "absent"));
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("cannot be read: No such file or directory"));
}

TEST(NatsUrlTest, RefusalsAreSentences) {
  const auto error = [](const std::string& text) {
    const auto url = Parse(text);
    EXPECT_EQ(url.status().code(), absl::StatusCode::kInvalidArgument) << text << ": " << url.status();
    return std::string(url.status().message());
  };
  EXPECT_EQ(error("nats://h?bukket=b"),
            "the URL has the unknown parameter \"bukket\"; known for nats: bucket, replicas, storage, sync, "
            "delete_linger, password_file, password_env, token, token_file, token_env, creds, tls, tls_ca, tls_cert, "
            "tls_key");
  EXPECT_EQ(error("nats://h?bucket=a.b"), "the nats URL: a bucket's name has letters, digits, '-' and '_'");
  EXPECT_EQ(error("nats://h?bucket="), "the nats URL: a bucket's name has letters, digits, '-' and '_'");
  for (const char* replicas : {"0", "2", "33", "", "three"}) {
    EXPECT_EQ(error(std::string("nats://h?replicas=") + replicas), "the nats URL: the parameter replicas is 1, 3 or 5");
  }
  EXPECT_EQ(error("nats://h?storage=disk"),
            "the nats URL: the parameter storage is \"file\" (the default) or \"memory\"");
  EXPECT_EQ(error("nats://h?sync=full"),
            "the nats URL: the parameter sync is \"always\", where every server has sync_interval: always; else leave "
            "it away");
  EXPECT_EQ(error("nats://h?sync=always&storage=memory"),
            "the nats URL: sync=always means nothing with storage=memory");
  for (const char* linger : {"", "30", "-1s", "0s", "25h", "soon"}) {
    EXPECT_EQ(error(std::string("nats://h?delete_linger=") + linger),
              "the nats URL: the parameter delete_linger is a time from 1ms to 24h, for example 30s");
  }
  EXPECT_THAT(error("nats://alice@h"),
              HasSubstr("a user needs a password: add password_file=PATH or password_env=NAME. "
                        "Is it a token? Give it by token_file=PATH"));
  EXPECT_EQ(error("nats://u:p@h?password_file=/f"),
            "the nats URL: it gives the password in more than one way; keep one");
  EXPECT_EQ(error("nats://h?token=a&token_env=B"), "the nats URL: it gives the token in more than one way; keep one");
  EXPECT_EQ(error("nats://h?password_file=/f"), "the nats URL: a password needs a user: write nats://USER@HOST");
  EXPECT_EQ(error("nats://u@h?password_file="),
            "the nats URL: the parameter password_file names no file; '-' is the standard input");
  EXPECT_EQ(error("nats://h?token_env="), "the nats URL: the parameter token_env names no variable");
  EXPECT_EQ(error("nats://h?token="), "the nats URL: the parameter token is empty");
  EXPECT_EQ(error("nats://h?creds="), "the nats URL: the parameter creds names no file");
  for (const char* both : {"nats://u:p@h?token=t", "nats://u:p@h?creds=/c", "nats://h?token_file=/t&creds=/c"}) {
    EXPECT_EQ(error(both), "the nats URL: user, token and creds exclude each other; keep one");
  }
  EXPECT_EQ(error("nats://h?tls=yes"), "the nats URL: the parameter tls is \"on\" or \"off\"");
  EXPECT_EQ(error("nats://h?tls_ca="), "the nats URL: the parameter tls_ca names no file");
  EXPECT_EQ(error("nats://h?tls=off&tls_ca=/ca"),
            "the nats URL: tls_ca, tls_cert and tls_key mean nothing with tls=off");
  EXPECT_EQ(error("nats://h?tls_cert=/c"),
            "the nats URL: tls_cert and tls_key come together: a certificate and the key to it");
}

TEST(NatsUrlTest, RefusalsHoldNoSecret) {
  for (const char* text : {"nats://u:hunter2@h?replicas=2", "nats://u:hunter2@h?password_file=x", "nats://hunter2@h",
                           "nats://h?token=hunter2&creds=c", "nats://h?token=hunter2&tls=x", "nats://u:a?hunter2=b@h",
                           "nats://u:hunter2@h/x", "nats://u:hunter2@h?x=y", "nats://h?token=hunter2%zz"}) {
    const std::string error(Parse(text).status().message());
    EXPECT_NE(error, "") << text;
    EXPECT_EQ(error.find("hunter2"), std::string::npos) << error;
  }
}

}  // namespace
}  // namespace kv
