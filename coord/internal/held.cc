#include "coord/internal/held.h"

#include "coord/internal/core.h"

namespace coord::internal {

bool Held::Valid() const {
  return !lost.load(std::memory_order_acquire) && !released.load(std::memory_order_acquire) &&
         session->Valid(core->runtime->Now());
}

}  // namespace coord::internal
