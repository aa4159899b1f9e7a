// How a NATS connection is made, or why not.

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "kv/nats_connection.h"
#include "kv/nats_connection_test_util.h"

namespace kv {
namespace {

absl::Status Connect(const NatsOptions& options, absl::Duration patience = absl::Seconds(20)) {
  return NatsConnection::Connect(options, In(patience)).status();
}

std::string TestData(const std::string& name) { return "tests/servers/testdata/" + name; }

TEST(NatsConnectTest, OptionsThatContradictEachOther) {
  const auto message = [](NatsOptions options) {
    const absl::Status status = Connect(options);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_EQ(status.message().find("secret"), std::string::npos) << status;
    return std::string(status.message());
  };
  NatsOptions good = ServerAt("127.0.0.1:4222");
  NatsOptions options;
  EXPECT_EQ(message(options), "no NATS server is given");
  for (const std::string server : {"", "host", "host:", ":1", "host:0", "host:65536", "host:1x", "nats://host:1",
                                   "user:secret@host:1", "a b:1", "[::1]", "::1:1"}) {
    options.servers = {server};
    EXPECT_EQ(message(options), "a server's address must be written host:port") << server;
  }
  options = good;
  options.user = "u";
  EXPECT_EQ(message(options), "a user is given without a password");
  options.password = "secret";
  options.token = "secret";
  EXPECT_EQ(message(options), "more than one of user, token and credentials file is given; give one");
  options = good;
  options.password = "secret";
  EXPECT_EQ(message(options), "a password is given without a user");
  options = good;
  options.token = "secret\n";
  EXPECT_EQ(message(options), "a user, password or token has a control character, perhaps a line end");
  options = good;
  options.tls_ca_file = "/x";
  EXPECT_EQ(message(options), "TLS files are given, but TLS is off; turn it on, or leave them out");
  options = good;
  options.tls = true;
  options.tls_cert_file = "/x";
  EXPECT_EQ(message(options), "a client's TLS certificate and its key must be given together");
}

TEST(NatsConnectTest, FilesThatCannotBeRead) {
  TempDir folder;
  NatsOptions options = ServerAt("127.0.0.1:4222");
  options.credentials_file = folder / "none.creds";
  EXPECT_EQ(Connect(options), absl::NotFoundError("cannot read the credentials file " + options.credentials_file +
                                                  ": No such file or directory"));
  options.credentials_file = folder.path();
  EXPECT_EQ(Connect(options),
            absl::NotFoundError("cannot read the credentials file " + folder.path() + ": it is not a file"));
  options.credentials_file.clear();
  options.tls = true;
  options.tls_ca_file = folder / "ca.pem";
  EXPECT_EQ(Connect(options), absl::NotFoundError("cannot read the file of trusted certificates " +
                                                  options.tls_ca_file + ": No such file or directory"));
}

TEST(NatsConnectTest, DeadServer) {
  auto port = servers::FreePort();
  ASSERT_TRUE(port.ok());
  const std::string address = "127.0.0.1:" + std::to_string(*port);
  EXPECT_EQ(Connect(ServerAt(address)),
            absl::UnavailableError("cannot connect to NATS: " + address + ": Connection refused"));
}

TEST(NatsConnectTest, UnknownHost) {
  const absl::Status status = Connect(ServerAt("host.invalid:4222"));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(status.message().find("host.invalid:4222: the name cannot be resolved"), std::string::npos) << status;
}

TEST(NatsConnectTest, NotNats) {
  for (const std::string greeting : {"HTTP/1.1 400 Bad Request\r\n\r\n", "INFO x\r\n", "INFO {}\r\n", "\r\n"}) {
    FakeServer server(greeting);
    EXPECT_EQ(Connect(ServerAt(server.address())),
              absl::FailedPreconditionError("cannot connect to NATS: " + server.address() +
                                            ": it does not speak NATS; check the address: 4222 is the usual port of "
                                            "clients"))
        << greeting;
  }
  FakeServer endless("INFO " + std::string(100'000, 'x'));
  EXPECT_EQ(Connect(ServerAt(endless.address())).code(), absl::StatusCode::kFailedPrecondition);
}

TEST(NatsConnectTest, SilentServer) {
  FakeServer server("");
  const absl::Time begin = absl::Now();
  const absl::Status status = Connect(ServerAt(server.address()), absl::Milliseconds(300));
  EXPECT_LT(absl::Now() - begin, absl::Seconds(1));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(status.message().find("it takes the connection but says nothing"), std::string::npos) << status;
}

TEST(NatsConnectTest, ServerThatStallsAfterItsGreeting) {
  FakeServer server(FakeServer::Info());  // the probe is greeted; then CONNECT and PING come, and PONG
  EXPECT_EQ(Connect(ServerAt(server.address())), absl::OkStatus());
}

TEST(NatsConnectTest, TooOld) {
  FakeServer server("INFO {\"version\":\"2.8.4\",\"headers\":true,\"max_payload\":1048576}\r\n");
  EXPECT_EQ(Connect(ServerAt(server.address())),
            absl::FailedPreconditionError("cannot connect to NATS: " + server.address() +
                                          ": its version is 2.8.4; 2.9 is the oldest that is supported"));
}

TEST(NatsConnectTest, PassedDeadline) {
  EXPECT_EQ(Connect(ServerAt("127.0.0.1:4222"), -absl::Seconds(1)),
            absl::DeadlineExceededError("the deadline to connect to NATS has passed"));
}

TEST(NatsConnectTest, OneOfSeveralIsAlive) {
  auto server = RunNats();
  FakeServer silent("");
  FakeServer garbage("SSH-2.0-x\r\n");
  NatsOptions options;
  options.servers = {silent.address(), "127.0.0.1:1", server->address(), garbage.address()};
  const auto connection = NatsConnection::Connect(options, In(absl::Seconds(8)));
  ASSERT_TRUE(connection.ok()) << connection.status();
  EXPECT_EQ((*connection)->server(), server->address());
}

TEST(NatsConnectTest, EachOfSeveralIsNamedWithItsReason) {
  auto server = RunNats({false, "authorization { user: u, password: right }", "", ""});
  FakeServer garbage("SSH-2.0-x\r\n");
  NatsOptions options;
  options.servers = {"127.0.0.1:1", garbage.address()};
  absl::Status status = Connect(options);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_NE(status.message().find("127.0.0.1:1: Connection refused"), std::string::npos) << status;
  EXPECT_NE(status.message().find(garbage.address() + ": it does not speak NATS"), std::string::npos) << status;

  options.servers.push_back(server->address());
  options.user = "u";
  options.password = "my-secret";
  status = Connect(options);
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied) << status;
  EXPECT_NE(status.message().find(server->address() + ": the server refuses the credentials"), std::string::npos)
      << status;
  EXPECT_NE(status.message().find("127.0.0.1:1: Connection refused"), std::string::npos) << status;
  EXPECT_EQ(status.message().find("my-secret"), std::string::npos) << status;
}

TEST(NatsConnectTest, UserAndPassword) {
  // With what has to be escaped on the way.
  auto server = RunNats({false, R"(authorization { user: "u\"x", password: "p\\\" ssö" })", "", ""});
  ASSERT_NE(server, nullptr);
  NatsOptions options = ServerAt(server->address());
  options.user = "u\"x";
  options.password = "p\\\" ssö";
  EXPECT_EQ(Connect(options), absl::OkStatus());
  options.password = "my-secret";
  const std::string refused = "cannot connect to NATS: " + server->address() + ": the server refuses the credentials";
  EXPECT_EQ(Connect(options), absl::PermissionDeniedError(refused));
  EXPECT_EQ(Connect(ServerAt(server->address())), absl::PermissionDeniedError(refused));
}

TEST(NatsConnectTest, Token) {
  auto server = RunNats({false, R"(authorization { token: "to\"ken" })", "", ""});
  NatsOptions options = ServerAt(server->address());
  options.token = "to\"ken";
  EXPECT_EQ(Connect(options), absl::OkStatus());
  options.token = "my-secret";
  EXPECT_EQ(Connect(options), absl::PermissionDeniedError("cannot connect to NATS: " + server->address() +
                                                          ": the server refuses the credentials"));
}

TEST(NatsConnectTest, CredentialsFile) {
  std::ifstream file(TestData("operator.conf"));
  const std::string config((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  ASSERT_NE(config, "");
  auto server = RunNats({false, config, "", ""});
  ASSERT_NE(server, nullptr);
  NatsOptions options = ServerAt(server->address());
  options.credentials_file = TestData("user.creds");
  EXPECT_EQ(Connect(options), absl::OkStatus());
  options.credentials_file = TestData("stranger.creds");
  EXPECT_EQ(Connect(options), absl::PermissionDeniedError("cannot connect to NATS: " + server->address() +
                                                          ": the server refuses the credentials"));
  options.credentials_file = TestData("operator.conf");
  EXPECT_EQ(Connect(options),
            absl::InvalidArgumentError(options.credentials_file +
                                       " is not a NATS credentials file: it lacks the user's JWT or the seed; `nsc "
                                       "generate creds` makes one"));
}

// Certificates of an authority of their own, made by the command openssl.
class NatsTlsTest : public testing::Test {
 protected:
  void SetUp() override {
    Run("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=Authority "
        "-keyout ca.key -out ca.pem");
    Run("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=Stranger "
        "-keyout stranger.key -out stranger.pem");
    Issue("server", "DNS:localhost,IP:127.0.0.1");
    Issue("elsewhere", "DNS:elsewhere.example");
    Issue("client", "DNS:client");
  }

  void Issue(const std::string& name, const std::string& names) {
    std::ofstream(folder_ / (name + ".ext")) << "subjectAltName=" << names << "\n";
    Run("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=" + name + " -keyout " + name + ".key -out " +
        name + ".csr");
    Run("x509 -req -in " + name + ".csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile " + name +
        ".ext -out " + name + ".pem");
  }

  void Run(const std::string& arguments) {
    const std::string command = "cd " + folder_.path() + " && openssl " + arguments + " >>log 2>&1";
    if (std::system(command.c_str()) == 0) return;
    std::ifstream log(folder_ / "log");
    FAIL() << command << ":\n" << std::string((std::istreambuf_iterator<char>(log)), std::istreambuf_iterator<char>());
  }

  std::unique_ptr<servers::NatsServer> Server(const std::string& name, const std::string& more = "") {
    return RunNats({false,
                    "tls { cert_file: \"" + (folder_ / (name + ".pem")) + "\", key_file: \"" +
                        (folder_ / (name + ".key")) + "\"\n" + more + "\n}",
                    "", ""});
  }

  NatsOptions Trusting(const servers::NatsServer& server, const std::string& host, const std::string& authority) {
    NatsOptions options = ServerAt(host + ":" + std::to_string(server.port()));
    options.tls = true;
    options.tls_ca_file = folder_ / authority;
    return options;
  }

  TempDir folder_;
};

TEST_F(NatsTlsTest, Trusted) {
  auto server = Server("server");
  ASSERT_NE(server, nullptr);
  for (const std::string host : {"localhost", "127.0.0.1"}) {
    auto connection = ConnectTo(Trusting(*server, host, "ca.pem"));
    ASSERT_NE(connection, nullptr);
    EXPECT_EQ(connection->server_version(), server->version());
    EXPECT_EQ(connection->Flush(Soon()), absl::OkStatus());
    // More than a TLS record, and than the client library's buffer.
    auto subscription = connection->Subscribe("a", nullptr);
    ASSERT_EQ(connection->Publish("a", std::string(500'000, 'x')), absl::OkStatus());
    EXPECT_TRUE((*subscription)->Next(absl::Seconds(20)).ok());
  }
}

TEST_F(NatsTlsTest, Untrusted) {
  auto server = Server("server");
  ASSERT_NE(server, nullptr);
  for (NatsOptions options :
       {Trusting(*server, "localhost", "stranger.pem"), Trusting(*server, "localhost", "ca.pem")}) {
    if (options.tls_ca_file == folder_ / "ca.pem") options.tls_ca_file.clear();  // what the system trusts
    const absl::Status status = Connect(options);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_NE(status.message().find("TLS fails: "), std::string::npos) << status;
    EXPECT_NE(status.message().find("unable to get local issuer certificate"), std::string::npos) << status;
  }
}

TEST_F(NatsTlsTest, CertificateOfAnotherName) {
  auto server = Server("elsewhere");
  ASSERT_NE(server, nullptr);
  for (const std::string host : {"localhost", "127.0.0.1"}) {
    const absl::Status status = Connect(Trusting(*server, host, "ca.pem"));
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_NE(status.message().find("mismatch"), std::string::npos) << status;
  }
}

TEST_F(NatsTlsTest, ClientCertificate) {
  auto server = Server("server", "ca_file: \"" + (folder_ / "ca.pem") + "\"\nverify: true");
  ASSERT_NE(server, nullptr);
  NatsOptions options = Trusting(*server, "localhost", "ca.pem");
  EXPECT_FALSE(Connect(options).ok());
  options.tls_cert_file = folder_ / "client.pem";
  options.tls_key_file = folder_ / "client.key";
  EXPECT_EQ(Connect(options), absl::OkStatus());
  options.tls_key_file = folder_ / "server.key";
  EXPECT_EQ(Connect(options), absl::InvalidArgumentError(options.tls_cert_file + " and " + options.tls_key_file +
                                                         " are not a certificate and its key in PEM format"));
  options = Trusting(*server, "localhost", "ca.key");
  EXPECT_EQ(Connect(options), absl::InvalidArgumentError(options.tls_ca_file + " holds no certificates in PEM format"));
}

// The client library by itself would wait for ever, and hold its lock meanwhile.
TEST_F(NatsTlsTest, AHandshakeThatStallsIsEnded) {
  FakeServer stalling(FakeServer::Info(",\"tls_required\":true"));
  NatsOptions options = ServerAt(stalling.address());
  options.tls = true;
  options.tls_ca_file = folder_ / "ca.pem";
  const absl::Time begin = absl::Now();
  EXPECT_EQ(Connect(options), absl::UnavailableError("cannot connect to NATS: " + stalling.address() +
                                                     ": the connection ended in the middle of the TLS handshake"));
  EXPECT_LT(absl::Now() - begin, absl::Seconds(5)) << "two are to be expected";

  auto server = Server("server");
  ASSERT_NE(server, nullptr);
  options = Trusting(*server, "127.0.0.1", "ca.pem");
  options.servers.push_back(stalling.address());
  auto connection = ConnectTo(options);
  ASSERT_NE(connection, nullptr);
  EXPECT_EQ(connection->server(), server->address());
  const size_t tries = stalling.received().Get().size();
  server->Kill();
  ASSERT_TRUE(stalling.received().Await([tries](const Strings& all) { return all.size() > tries; }));
  ASSERT_EQ(server->Start(), absl::OkStatus());
  EXPECT_TRUE(Eventually([&] { return connection->state() == NatsState::kConnected; }));
  EXPECT_EQ(connection->Flush(Soon()), absl::OkStatus());
}

TEST_F(NatsTlsTest, OneSideAlone) {
  auto with = Server("server");
  auto without = RunNats({false, "", "", ""});
  EXPECT_EQ(
      Connect(ServerAt(with->address())),
      absl::FailedPreconditionError("cannot connect to NATS: " + with->address() + ": it requires TLS; turn it on"));
  EXPECT_EQ(Connect(Trusting(*without, "127.0.0.1", "ca.pem")),
            absl::FailedPreconditionError("cannot connect to NATS: " + without->address() +
                                          ": it does not offer TLS; configure it there, or turn TLS off here"));
}

}  // namespace
}  // namespace kv
