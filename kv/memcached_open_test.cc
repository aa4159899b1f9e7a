// Which servers the memcached store takes, and what it makes of their settings.

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kv/memcached_store.h"
#include "kv/memcached_test_util.h"

namespace kv {
namespace {

using testing::HasSubstr;

TEST(MemcachedLimitsTest, TheLimitOfValuesFollowsTheServers) {
  const std::pair<std::vector<std::string>, size_t> kSizes[] = {
      {{"-I", "16k", "-o", "slab_chunk_max=8192"}, (16u << 10) - 1024},
      {{}, (1u << 20) - 1024},
      {{"-I", "8m"}, 1u << 20}};
  for (const auto& [arguments, limit] : kSizes) {
    servers::MemcachedOptions options;
    options.arguments = arguments;
    const auto server = RunServer(options);
    const auto store = OpenAt(server->address());
    EXPECT_EQ(store->traits().max_value_bytes, limit);
    const std::string longest_key(512, 'k');
    for (const std::string& key : {std::string("k"), std::string(244, 'k'), longest_key}) {
      const WriteResult put = store->Put(key, std::string(limit, 'v'), Soon());
      EXPECT_TRUE(put.ok()) << put.status;
      EXPECT_EQ(store->Get(key, Soon())->value.size(), limit);
      EXPECT_EQ(store->Put(key, std::string(limit + 1, 'v'), Soon()).status.code(), absl::StatusCode::kInvalidArgument);
    }
  }
}

// Something that listens, and answers each connection with one text.
class Answerer {
 public:
  explicit Answerer(std::string answer) : answer_(std::move(answer)), listener_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(listener_, 8), 0);
    socklen_t size = sizeof(address);
    EXPECT_EQ(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] {
      for (int client; (client = accept(listener_, nullptr, nullptr)) >= 0; close(client)) {
        char request[64];
        if (recv(client, request, sizeof(request), 0) > 0) send(client, answer_.data(), answer_.size(), MSG_NOSIGNAL);
      }
    });
  }
  Answerer(const Answerer&) = delete;
  Answerer& operator=(const Answerer&) = delete;
  ~Answerer() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
  }

  int port() const { return port_; }

 private:
  const std::string answer_;
  const int listener_;
  int port_ = 0;
  std::thread thread_;
};

std::string OpenError(absl::StatusCode code, const std::string& address) {
  const auto store = OpenMemcachedStore(address, Soon());
  EXPECT_EQ(store.status().code(), code) << store.status();
  return std::string(store.status().message());
}

TEST(MemcachedOpenTest, RefusesAListOfServers) {
  EXPECT_THAT(OpenError(absl::StatusCode::kInvalidArgument, "127.0.0.1:11211,127.0.0.1:11212"),
              HasSubstr("a store is on one memcached server, because revisions of several are unrelated"));
}

TEST(MemcachedOpenTest, RefusesAServerWithoutIds) {
  servers::MemcachedOptions options;
  options.arguments = {"-C"};
  const auto server = RunServer(options);
  EXPECT_THAT(OpenError(absl::StatusCode::kFailedPrecondition, server->address()),
              HasSubstr("runs without CAS ids (-C), so that no write can be conditional"));
}

TEST(MemcachedOpenTest, RefusesAServerOfTheTextProtocolOnly) {
  servers::MemcachedOptions options;
  options.arguments = {"-B", "ascii"};
  const auto server = RunServer(options);
  EXPECT_THAT(OpenError(absl::StatusCode::kFailedPrecondition, server->address()),
              HasSubstr("does not speak the binary protocol"));
}

TEST(MemcachedOpenTest, RefusesWhatIsNotMemcached) {
  // An end of the line that answers everything with one sentence.
  const std::string kAnswers[] = {"HTTP/1.1 400 Bad Request\r\n\r\n", "-ERR unknown command\r\n",
                                  "SSH-2.0-OpenSSH_9.2\r\n"};
  for (const std::string& answer : kAnswers) {
    const Answerer other(answer);
    EXPECT_THAT(OpenError(absl::StatusCode::kFailedPrecondition, absl::StrCat("127.0.0.1:", other.port())),
                HasSubstr("does not answer as memcached does"))
        << answer;
  }
}

TEST(MemcachedOpenTest, NamesAServerThatTurnsConnectionsAway) {
  const Answerer full("ERROR Too many open connections\r\n");
  EXPECT_THAT(OpenError(absl::StatusCode::kUnavailable, absl::StrCat("127.0.0.1:", full.port())),
              HasSubstr("turns connections away: its limit (-c) may be reached, or it is not memcached"));
}

TEST(MemcachedOpenTest, NamesAServerThatWantsALogin) {
  servers::MemcachedOptions options;
  TempDir folder;
  std::ofstream(folder / "logins") << "user:password\n";
  options.arguments = {"-Y", folder / "logins"};
  const auto server = RunServer(options);
  EXPECT_THAT(OpenError(absl::StatusCode::kFailedPrecondition, server->address()),
              HasSubstr("start it without -B ascii and without -Y"));
}

TEST(MemcachedOpenTest, NamesAServerThatIsNotThere) {
  const int port = *servers::FreePort();
  EXPECT_EQ(OpenError(absl::StatusCode::kUnavailable, absl::StrCat("127.0.0.1:", port)),
            absl::StrCat("memcached: the server at 127.0.0.1:", port, " cannot be reached: Connection refused"));
}

TEST(MemcachedOpenTest, NamesAHostThatDoesNotExist) {
  EXPECT_THAT(OpenError(absl::StatusCode::kUnavailable, "no-such-host.invalid:11211"),
              HasSubstr("the host of no-such-host.invalid:11211 cannot be looked up"));
}

}  // namespace
}  // namespace kv
