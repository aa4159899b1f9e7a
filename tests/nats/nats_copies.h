// Copies on a bucket of a NATS server of their own.

#ifndef TESTS_NATS_NATS_COPIES_H_
#define TESTS_NATS_NATS_COPIES_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "tests/process/copies.h"
#include "tests/process/process.h"
#include "tests/servers/servers.h"

namespace nats_test {

using process_test::BootNanos;
using process_test::Eventually;
using process_test::Process;
using process_test::Reply;

constexpr char kBucket[] = "coord";

// No beat comes within any test.
constexpr absl::Duration kNoBeats = absl::Hours(2);

class NatsCopiesTest : public process_test::CopiesTest {
 protected:
  void SetUp() override {
    auto server = servers::NatsServer::Run();
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    std::cout << "nats-server " << server_->version() << "\n";
  }

  // Of the bucket at `address`.
  std::string UrlAt(const std::string& address) const {
    return absl::StrCat("nats://", address, "?bucket=", kBucket, "&storage=", storage_);
  }
  std::string url() const override { return UrlAt(server_->address()); }

  std::string storage_ = "file";
  std::unique_ptr<servers::NatsServer> server_;
};

}  // namespace nats_test

#endif  // TESTS_NATS_NATS_COPIES_H_
