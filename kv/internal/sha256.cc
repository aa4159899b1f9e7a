#include "kv/internal/sha256.h"

#include <openssl/sha.h>

namespace kv::internal {

std::array<uint8_t, 32> Sha256(std::string_view text) {
  static_assert(SHA256_DIGEST_LENGTH == 32);
  std::array<uint8_t, 32> digest{};
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  return digest;
}

}  // namespace kv::internal
