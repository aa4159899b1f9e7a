#include "coord/testing.h"

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "kv/memory_store.h"

namespace coord::testing {

namespace {

SimOptions WithSeed(uint64_t seed) {
  SimOptions options;
  options.seed = seed;
  return options;
}

}  // namespace

World::World(uint64_t seed) : runtime_(WithSeed(seed)) {
  watches_ = std::make_unique<internal::Executor>(runtime_, "kv-watch");
  kv::MemoryStoreOptions options;
  const absl::Time begin = runtime_.Now();
  options.wall_now = [this] { return runtime_.WallNow(); };
  options.uptime = [this, begin] { return runtime_.Now() - begin; };
  options.executor = [this](std::function<void()> task) { watches_->Post(std::move(task)); };
  memory_ = kv::NewMemoryStore(std::move(options));
  faulty_ = std::make_shared<kv::FaultyStore>(memory_);
  counting_ = std::make_shared<kv::CountingStore>(faulty_);
}

World::~World() {
  watches_->Stop(absl::InfiniteFuture());
  runtime_.RunUntilIdle();  // threads that were left behind come to their end
}

JoinOptions World::Options(const std::string& instance) {
  JoinOptions options;
  options.store = counting_;
  options.plugin = "test";
  options.instance = instance;
  options.runtime = &runtime_;
  options.log = [this](LogLevel, std::string_view line) {
    kv::internal::MutexLock lock(mu_);
    log_.append(line).append("\n");
  };
  return options;
}

std::unique_ptr<Cluster> World::Join(const std::string& instance) { return Join(Options(instance)); }

std::unique_ptr<Cluster> World::Join(JoinOptions options) {
  absl::StatusOr<std::unique_ptr<Cluster>> cluster = Cluster::Join(std::move(options));
  if (!cluster.ok()) {
    std::fprintf(stderr, "coord/testing: joining failed: %s\n", cluster.status().ToString().c_str());
    std::abort();
  }
  return *std::move(cluster);
}

std::string World::log() const {
  kv::internal::MutexLock lock(mu_);
  return log_;
}

}  // namespace coord::testing
