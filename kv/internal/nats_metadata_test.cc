#include "kv/internal/nats_metadata.h"

#include <gtest/gtest.h>

#include <string>

namespace kv::internal {
namespace {

TEST(NatsMetadataTest, ShortAndLongForms) {
  const std::string numbers = "1.4711.42.1690000000123456789.7";
  for (const std::string& reply :
       {"$JS.ACK.S.C." + numbers, "$JS.ACK.hub.ACCOUNT.S.C." + numbers, "$JS.ACK._.ACCOUNT.S.C." + numbers + ".random",
        "$JS.ACK._.ACCOUNT.S.C." + numbers + ".random.later"}) {
    const auto metadata = ParseNatsMetadata(reply);
    ASSERT_TRUE(metadata.has_value()) << reply;
    EXPECT_EQ(metadata->stream_sequence, 4711u);
    EXPECT_EQ(metadata->consumer_sequence, 42u);
    EXPECT_EQ(metadata->pending, 7u);
    EXPECT_EQ(absl::ToUnixNanos(metadata->stored_at), 1690000000123456789);
  }
}

TEST(NatsMetadataTest, NothingElse) {
  for (const std::string reply :
       {"", "a", "$JS.ACK", "$JS.ACK.S.C.1.2.3.4", "$JS.ACK.S.C.1.2.3.4.5.6", "$JS.ACX.S.C.1.2.3.4.5",
        "$KV.ACK.S.C.1.2.3.4.5", "$JS.ACK.S.C.1.x.3.4.5", "$JS.ACK.S.C.1.2.3.4.", "$JS.ACK.S.C.1.-2.3.4.5",
        "$JS.ACK.S.C.1.99999999999999999999.3.4.5", "$JS.FC.S.C.x"}) {
    EXPECT_FALSE(ParseNatsMetadata(reply).has_value()) << reply;
  }
}

}  // namespace
}  // namespace kv::internal
