// The memcached store and a server whose answers are errors, break off, or make no sense. None of them may pass for an
// absence, a lost write or a done one.

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kv/memcached_store.h"
#include "kv/test_util.h"

namespace kv {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Commands of the binary protocol.
enum : uint8_t { kAdd = 0x02, kReplace = 0x03, kNoop = 0x0a, kVersion = 0x0b, kGet = 0x0d, kStat = 0x10 };

// One answer in the binary protocol.
std::string Answer(uint8_t command, uint16_t status, const std::string& extras, const std::string& key,
                   const std::string& value, uint64_t id = 0) {
  const auto big_endian = [](uint64_t number, int bytes) {
    std::string text;
    for (int i = bytes - 1; i >= 0; --i) text += static_cast<char>((number >> (8 * i)) & 0xFF);
    return text;
  };
  const uint64_t body = extras.size() + key.size() + value.size();
  return absl::StrCat("\x81", std::string(1, static_cast<char>(command)), big_endian(key.size(), 2),
                      big_endian(extras.size(), 1), std::string(1, '\0'), big_endian(status, 2), big_endian(body, 4),
                      big_endian(0, 4), big_endian(id, 8), extras, key, value);
}

// What a get of the key "a" gets where there is one.
std::string Found(const std::string& value, uint64_t id) {
  return absl::StrCat(Answer(kGet, 0, std::string(4, '\0'), "coord:a", value, id), Answer(kNoop, 0, "", "", ""));
}
std::string Absent() { return Answer(kNoop, 0, "", "", ""); }

constexpr char kItem[] = "coord-kv/1.0 7 0\none";

// A server for one connection at a time. It opens as memcached does, answers each get and each write with what the test
// says, and then closes the connection if the test says so.
class FakeServer {
 public:
  // With `stats`, an answer to that command, it speaks the binary protocol alone.
  explicit FakeServer(std::string stats = "") : stats_(std::move(stats)), listener_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(listener_, 8), 0);
    socklen_t size = sizeof(address);
    EXPECT_EQ(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    address_ = absl::StrCat("127.0.0.1:", ntohs(address.sin_port));
    thread_ = std::thread([this] {
      for (int client; (client = accept(listener_, nullptr, nullptr)) >= 0; close(client)) Serve(client);
    });
  }
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;
  ~FakeServer() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
  }

  const std::string& address() const { return address_; }

  void SetAnswers(std::string get, std::string write, bool then_close) {
    const std::lock_guard<std::mutex> lock(mutex_);
    get_ = std::move(get);
    write_ = std::move(write);
    then_close_ = then_close;
    writes_.clear();
  }

  // The commands that write and have come since.
  std::vector<int> writes() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return writes_;
  }

 private:
  static bool Read(int client, size_t size, std::string* text) {
    text->resize(size);
    return size == 0 || recv(client, text->data(), size, MSG_WAITALL) == static_cast<ssize_t>(size);
  }

  void Serve(int client) {
    char first = 0;
    while (recv(client, &first, 1, MSG_PEEK) == 1) {
      std::string answer;
      bool close_then = false;
      if (first != '\x80') {
        if (!stats_.empty() || !ServeLine(client, &answer)) return;
      } else if (!ServeFrame(client, &answer, &close_then)) {
        return;
      }
      send(client, answer.data(), answer.size(), MSG_NOSIGNAL);
      if (close_then) return;
    }
  }

  static bool ServeLine(int client, std::string* answer) {
    std::string line;
    for (char c = 0; c != '\n'; line += c) {
      if (recv(client, &c, 1, 0) != 1) return false;
    }
    if (absl::StartsWith(line, "version")) *answer = "VERSION 1.6.18\r\n";
    if (absl::StartsWith(line, "stats")) *answer = "STAT item_size_max 1048576\r\nSTAT cas_enabled yes\r\nEND\r\n";
    return line != "quit\r\n";
  }

  bool ServeFrame(int client, std::string* answer, bool* close_then) {
    std::string head;
    std::string body;
    if (!Read(client, 24, &head)) return false;
    const auto byte = [&head](size_t at) { return size_t{static_cast<unsigned char>(head[at])}; };
    if (!Read(client, (byte(10) << 8) | byte(11), &body)) return false;
    const std::lock_guard<std::mutex> lock(mutex_);
    switch (byte(1)) {
      case kVersion:
        *answer = Answer(kVersion, 0, "", "", "1.6.18");
        return true;
      case kStat:
        *answer = stats_;
        return true;
      case kGet:
        return true;  // the answer comes with that to the noop behind it
      case kNoop:
        *answer = get_;
        *close_then = then_close_ && write_.empty();
        return true;
      case kAdd:
      case kReplace:
        writes_.push_back(static_cast<int>(byte(1)));
        *answer = write_;
        *close_then = then_close_;
        return true;
      default:
        return false;
    }
  }

  const std::string stats_;
  const int listener_;
  std::string address_;
  std::thread thread_;
  std::mutex mutex_;
  std::string get_ = Absent();
  std::string write_;
  bool then_close_ = false;
  std::vector<int> writes_;
};

class MemcachedAnswerTest : public testing::Test {
 protected:
  MemcachedAnswerTest() {
    auto store = OpenMemcachedStore(server_.address(), Soon());
    EXPECT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }

  void ExpectGet(absl::StatusCode code, const std::string& message, absl::Duration patience = absl::Seconds(20)) {
    const absl::Status status = store_->Get("a", In(patience)).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }
  void ExpectUpdate(absl::StatusCode code, const std::string& message, absl::Duration patience = absl::Seconds(20)) {
    const absl::Status status = store_->Update("a", "two", 7, In(patience)).status;
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }

  FakeServer server_;
  std::shared_ptr<Store> store_;
};

TEST_F(MemcachedAnswerTest, TheFakeServerPassesForOne) {
  ExpectGet(absl::StatusCode::kNotFound, "does not exist");
  server_.SetAnswers(Found(kItem, 5), Answer(kReplace, 0, "", "", ""), false);
  const auto entry = store_->Get("a", Soon());
  ASSERT_TRUE(entry.ok()) << entry.status();
  EXPECT_EQ(entry->value, "one");
  EXPECT_TRUE(store_->Update("a", "two", 7, Soon()).ok());
  EXPECT_THAT(server_.writes(), ElementsAre(kReplace));
}

// libmemcached says NOT FOUND for all of these.
TEST_F(MemcachedAnswerTest, AnErrorInAnswerToAGetIsNoAbsence) {
  server_.SetAnswers(Answer(kGet, 0x82, "", "", "Out of memory"), "", false);
  ExpectGet(absl::StatusCode::kUnavailable, "it closed the connection or refused the command");
  server_.SetAnswers(Answer(kGet, 0x20, "", "", "Auth failure"), "", false);
  ExpectGet(absl::StatusCode::kUnavailable, "it closed the connection or refused the command");
  server_.SetAnswers(Answer(kGet, 0x81, "", "", "Unknown command"), "", false);
  ExpectGet(absl::StatusCode::kUnavailable, "its answer makes no sense");
  server_.SetAnswers("SERVER_ERROR out of memory writing get response\r\n", "", false);
  ExpectGet(absl::StatusCode::kUnavailable, "its answer makes no sense");
}

TEST_F(MemcachedAnswerTest, AnAnswerThatBreaksOffIsNoAbsence) {
  const std::string whole = Found(kItem, 5);
  for (const size_t size : {size_t{0}, size_t{1}, size_t{23}, size_t{24}, size_t{30}, whole.size() - 25,
                            whole.size() - 24, whole.size() - 1}) {
    server_.SetAnswers(whole.substr(0, size), "", true);
    ExpectGet(absl::StatusCode::kUnavailable, "did not answer: ");
  }
}

TEST_F(MemcachedAnswerTest, AnAnswerThatStopsHalfwayIsNoAbsence) {
  const std::string whole = Found(kItem, 5);
  for (const size_t size : {size_t{0}, size_t{1}, size_t{24}, size_t{30}, whole.size() - 24, whole.size() - 1}) {
    server_.SetAnswers(whole.substr(0, size), "", false);
    ExpectGet(absl::StatusCode::kDeadlineExceeded, "did not answer in time", absl::Milliseconds(50));
    ExpectUpdate(absl::StatusCode::kUnavailable, "nothing was written", absl::Milliseconds(50));
  }
  EXPECT_THAT(server_.writes(), IsEmpty());
}

TEST_F(MemcachedAnswerTest, AWriteWithoutAClearAnswerIsUnknown) {
  const std::string done = Answer(kReplace, 0, "", "", "");
  const std::vector<std::string> answers = {"", done.substr(0, 1), done.substr(0, 23), "STORED\r\n",
                                            Answer(kReplace, 0x81, "", "", "Unknown command")};
  for (const std::string& answer : answers) {
    for (const bool then_close : {false, true}) {
      server_.SetAnswers(Found(kItem, 5), answer.empty() && then_close ? "\x81" : answer, then_close);
      ExpectUpdate(absl::StatusCode::kDeadlineExceeded, "it may have been applied, or may still be", absl::Seconds(1));
      EXPECT_THAT(server_.writes(), ElementsAre(kReplace)) << "the write was repeated";
    }
  }
}

TEST_F(MemcachedAnswerTest, ClearRefusalsOfAWrite) {
  server_.SetAnswers(Found(kItem, 5), Answer(kReplace, 0x02, "", "", "Data exists for key."), false);
  ExpectUpdate(absl::StatusCode::kAborted, "another write came first");
  server_.SetAnswers(Found(kItem, 5), Answer(kReplace, 0x01, "", "", "Not found"), false);
  ExpectUpdate(absl::StatusCode::kNotFound, "does not exist");
  server_.SetAnswers(Found(kItem, 5), Answer(kReplace, 0x03, "", "", "Too large."), false);
  ExpectUpdate(absl::StatusCode::kInvalidArgument, "takes no item of this size");
  server_.SetAnswers(Found(kItem, 5), Answer(kReplace, 0x82, "", "", "Out of memory allocating item"), false);
  ExpectUpdate(absl::StatusCode::kResourceExhausted, "has no memory left");
}

// With 0 a write would be unconditional.
TEST_F(MemcachedAnswerTest, AnItemWithoutAnIdIsNeverWritten) {
  server_.SetAnswers(Found(kItem, 0), Answer(kReplace, 0, "", "", ""), false);
  ExpectUpdate(absl::StatusCode::kFailedPrecondition, "runs without CAS ids (-C)");
  EXPECT_EQ(store_->Delete("a", 7, Soon()).status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(store_->Put("a", "two", Soon()).status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(server_.writes(), IsEmpty());
}

TEST(MemcachedBinaryTest, AServerOfTheBinaryProtocolOnlyIsTaken) {
  const FakeServer server(absl::StrCat(Answer(kStat, 0, "", "item_size_max", "65536"), Answer(kStat, 0, "", "", "")));
  const auto store = OpenMemcachedStore(server.address(), Soon());
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_EQ((*store)->traits().max_value_bytes, 65536u - 1024);
}

TEST(MemcachedBinaryTest, AServerThatWantsALoginIsNamed) {
  const FakeServer server(Answer(kStat, 0x20, "", "", "Auth failure"));
  const auto store = OpenMemcachedStore(server.address(), Soon());
  EXPECT_EQ(store.status().code(), absl::StatusCode::kPermissionDenied) << store.status();
  EXPECT_THAT(std::string(store.status().message()), HasSubstr("wants a login (-S), which this store does not"));
}

}  // namespace
}  // namespace kv
