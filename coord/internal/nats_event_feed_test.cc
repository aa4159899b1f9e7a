// The feed of one topic against a real server: its place while the topic is quiet and the stream moves on.

#include "coord/internal/nats_event_feed.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "coord/internal/core.h"
#include "coord/internal/event_worker.h"
#include "coord/internal/nats_event_inbox.h"
#include "coord/internal/nats_event_stream.h"
#include "coord/options.h"
#include "coord/runtime.h"
#include "gtest/gtest.h"
#include "kv/internal/mutex.h"
#include "kv/internal/nats_consumer.h"
#include "kv/memory_store.h"
#include "kv/nats_connection.h"
#include "tests/servers/servers.h"

namespace coord::internal {
namespace {

using kv::internal::MutexLock;
using Kind = NatsInboxItem::Kind;

absl::Time Soon() { return absl::Now() + absl::Seconds(30); }
absl::Time SoonSteady() { return RealRuntime().Now() + absl::Seconds(30); }

class NatsEventFeedTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto server = servers::NatsServer::Run();
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    auto relay = servers::Relay::Run(server_->address());
    ASSERT_TRUE(relay.ok()) << relay.status();
    relay_ = *std::move(relay);
    direct_ = Connect(server_->address());
    connection_ = Connect(relay_->address());
    JoinOptions options;
    options.store = kv::NewMemoryStore();
    options.plugin = "p";
    core_ = std::make_shared<Core>(std::move(options));
    worker_ = std::make_shared<EventWorker>(RealRuntime());
    stream_ = std::make_shared<NatsEventStream>(connection_, StreamConfig());
    NatsEventFeed::Taker taker;
    taker.take = [this](const kv::internal::StreamMessage& message) { return Take(message); };
    taker.mark = [this](const NatsInboxItem& mark) { Add(mark.kind, mark.sequence); };
    taker.stopped = [this] { Add(Kind::kLost, 0); };
    feed_ = std::make_shared<NatsEventFeed>(core_, worker_, connection_, stream_, "coord.s.r.p.quiet", taker);
    const auto state = stream_->Ensure(Soon());
    ASSERT_TRUE(state.ok()) << state.status();
    ASSERT_TRUE(feed_->Start(state->incarnation, state->last, state->last, SoonSteady()).ok());
  }

  void TearDown() override {
    if (feed_ != nullptr) feed_->Stop();
    if (worker_ != nullptr) worker_->Stop(SoonSteady());
    if (core_ != nullptr) core_->callbacks->Stop(SoonSteady());
  }

  static std::shared_ptr<kv::NatsConnection> Connect(const std::string& address) {
    kv::NatsOptions options;
    options.servers = {address};
    auto connection = kv::NatsConnection::Connect(options, Soon());
    EXPECT_TRUE(connection.ok()) << connection.status();
    return connection.ok() ? *std::move(connection) : nullptr;
  }

  bool Take(const kv::internal::StreamMessage& message) {
    {
      MutexLock lock(mu_);
      if (full_) return false;
    }
    Add(Kind::kEvent, message.sequence);
    return true;
  }

  void Add(Kind kind, uint64_t sequence) {
    MutexLock lock(mu_);
    got_.emplace_back(kind, sequence);
    changed_.NotifyAll();
  }

  // What came, once this did.
  std::vector<std::pair<Kind, uint64_t>> WaitFor(Kind kind, uint64_t sequence) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    MutexLock lock(mu_);
    const std::pair<Kind, uint64_t> wanted(kind, sequence);
    while (std::find(got_.begin(), got_.end(), wanted) == got_.end()) {
      if (changed_.WaitUntil(mu_, until)) continue;
      ADD_FAILURE() << "it did not come";
      break;
    }
    return got_;
  }

  // Stores so many events of 1000 bytes on `topic`; the stream keeps about 90.
  void Store(const std::string& topic, int count) {
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(direct_->Request("coord.s.r.p." + topic, std::string(1000, 'x'), {}, Soon()).ok());
    }
  }

  NatsEventStreamState Look() {
    const auto state = NatsEventStream(direct_, StreamConfig()).Ensure(Soon());
    EXPECT_TRUE(state.ok()) << state.status();
    return *state;
  }

  static NatsEventStreamConfig StreamConfig() {
    NatsEventStreamConfig config;
    config.space = "s";
    config.keep_for = absl::Hours(1);
    config.keep_bytes = 100000;
    return config;
  }

  std::unique_ptr<servers::NatsServer> server_;
  std::unique_ptr<servers::Relay> relay_;
  std::shared_ptr<kv::NatsConnection> direct_;
  std::shared_ptr<kv::NatsConnection> connection_;
  std::shared_ptr<Core> core_;
  std::shared_ptr<EventWorker> worker_;
  std::shared_ptr<const NatsEventStream> stream_;
  std::shared_ptr<NatsEventFeed> feed_;
  kv::internal::Mutex mu_;
  kv::internal::CondVar changed_;
  bool full_ KV_GUARDED_BY(mu_) = false;
  std::vector<std::pair<Kind, uint64_t>> got_ KV_GUARDED_BY(mu_);
};

TEST_F(NatsEventFeedTest, ItsPlaceFollowsTheStreamWhileTheTopicIsQuiet) {
  Store("quiet", 1);
  WaitFor(Kind::kEvent, 1);
  Store("busy", 60);
  feed_->Check(Look());
  WaitFor(Kind::kPlace, 61);
  feed_->Check(Look());  // nothing to do
  Store("busy", 60);
  EXPECT_GT(Look().first, 2u);
  // A consumer made anew from there has missed nothing, although the stream has lost what came after the last event.
  relay_->Cut();
  relay_->Reset();
  relay_->Heal();
  const auto got = WaitFor(Kind::kPlace, 121);
  for (const auto& [kind, sequence] : got) EXPECT_NE(kind, Kind::kGap) << sequence;
  Store("quiet", 1);
  WaitFor(Kind::kEvent, 122);
}

TEST_F(NatsEventFeedTest, WhatTheStreamLostBeforeItCameIsAGap) {
  Store("quiet", 1);
  WaitFor(Kind::kEvent, 1);
  relay_->Cut();
  Store("quiet", 200);
  const uint64_t first = Look().first;
  EXPECT_GT(first, 2u);
  relay_->Reset();
  relay_->Heal();
  const auto got = WaitFor(Kind::kEvent, 201);
  ASSERT_EQ(got.size(), 2u + (201 - first + 1));
  EXPECT_EQ(got[1], std::make_pair(Kind::kGap, first - 1));
  EXPECT_EQ(got[2], std::make_pair(Kind::kEvent, first));
}

TEST_F(NatsEventFeedTest, WithoutRoomItStopsAndGoesOnWhereItWas) {
  {
    MutexLock lock(mu_);
    full_ = true;
  }
  Store("quiet", 3);
  WaitFor(Kind::kLost, 0);
  {
    MutexLock lock(mu_);
    full_ = false;
  }
  feed_->Resume();
  const auto got = WaitFor(Kind::kEvent, 3);
  ASSERT_EQ(got.size(), 4u);
  EXPECT_EQ(got[1], std::make_pair(Kind::kEvent, uint64_t{1}));
  EXPECT_EQ(got[2], std::make_pair(Kind::kEvent, uint64_t{2}));
}

}  // namespace
}  // namespace coord::internal
