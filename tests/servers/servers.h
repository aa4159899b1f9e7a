// Real servers for tests: started on free ports of the loopback in a temporary folder, ended by process id when their
// object is destroyed, and with the test's process if that dies first.
//
// A server's program is looked for in $COORD_NATS_SERVER or $COORD_MEMCACHED, then in PATH and in the folders for
// system programs. One that is absent is an error that names the package; a test fails on it. A port belongs to its
// object from the start to the end, also while its server does not run: a client that connects then is refused.

#ifndef TESTS_SERVERS_SERVERS_H_
#define TESTS_SERVERS_SERVERS_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace servers {

// One server process. Not thread-safe. Its folder goes with the object.
class Server {
 public:
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  virtual ~Server();  // kills it

  // Starts it again after Kill, Terminate or an end by itself: same port, same folder. Returns once it answers; does
  // nothing if it runs. Unavailable, with the end of its log, if it does not come up.
  virtual absl::Status Start() = 0;

  void Kill();       // SIGKILL, and waits for the end
  void Terminate();  // SIGTERM, and waits for the end; a server that is stopped is continued for it
  void Stop();       // SIGSTOP, and waits until it has stopped
  void Continue();   // SIGCONT

  bool running() const;               // also while it is stopped
  bool stopped() const;               // by SIGSTOP
  pid_t pid() const { return pid_; }  // the server's own; -1 after Kill and Terminate
  int port() const { return port_; }
  const std::string& folder() const { return folder_; }
  std::string Log() const;  // what it wrote to its log, in all its runs

 protected:
  Server() = default;

  pid_t pid_ = -1;
  int port_ = 0;
  std::string folder_;
};

// Where a server listens, and in which network.
struct Place {
  std::string host = "127.0.0.1";
  // A file descriptor of the network namespace that it lives in (network.h), where all ports are free; it must stay
  // open as long as the server may be started. -1: this process's.
  int network = -1;
};

struct NatsServerOptions {
  bool jetstream = true;
  // More lines of the configuration file, for users, TLS and limits. They come last; what they say replaces what the
  // file said before.
  std::string config;
  // More lines of the configuration's block `jetstream`, for example "sync_interval: always" (from 2.10 on).
  std::string jetstream_config;
  std::string program;  // empty: as said above
};

class NatsServer : public Server {
 public:
  static absl::StatusOr<std::unique_ptr<NatsServer>> Run(const NatsServerOptions& options = {},
                                                         const Place& place = {});

  // "127.0.0.1:PORT", or at another place
  std::string address() const;
  int monitor_port() const { return monitor_port_; }

  // An integer of the monitoring page /varz, for example "in_msgs" or "out_msgs".
  absl::StatusOr<int64_t> Varz(const std::string& field) const;

  // The body of a monitoring page, for example "/jsz?streams=1".
  absl::StatusOr<std::string> Monitor(const std::string& path) const;

  // "2.9.10"
  std::string version() const { return version_; }

  // The program of the next Start: another version on the same files.
  virtual void UseProgram(const std::string& program) = 0;

 protected:
  std::string host_ = "127.0.0.1";
  int monitor_port_ = 0;
  std::string version_;
};

// Servers that are one cluster, for JetStream with replicas. Start of one of them returns once it answers, which does
// not say that it has caught up with the others: see WaitForStream. Not thread-safe.
class NatsCluster {
 public:
  // Returns once every server knows the others and the meta group has a leader. `places`, if any, are those of its
  // servers, one each.
  static absl::StatusOr<std::unique_ptr<NatsCluster>> Run(int size = 3, const NatsServerOptions& options = {},
                                                          const std::vector<Place>& places = {});
  virtual ~NatsCluster() = default;

  virtual NatsServer& server(int i) = 0;
  virtual int size() const = 0;
  // "127.0.0.1:P1,127.0.0.1:P2,127.0.0.1:P3"
  virtual std::string addresses() const = 0;
  // The index of the leader of a stream, by the monitoring pages of the servers that run; Unavailable if there is none.
  // A stream's name is unique among all accounts of a test.
  virtual absl::StatusOr<int> StreamLeader(const std::string& stream) = 0;
  // The same of the leader of the cluster itself, without whom nothing is created.
  virtual absl::StatusOr<int> MetaLeader() = 0;
  // Waits until stream has a leader and all replicas are current. DeadlineExceeded tells what was seen last.
  virtual absl::Status WaitForStream(const std::string& stream, absl::Time deadline) = 0;
};

struct MemcachedOptions {
  int megabytes = 64;
  bool no_eviction = false;            // -M
  std::vector<std::string> arguments;  // more of them
};

class MemcachedServer : public Server {
 public:
  static absl::StatusOr<std::unique_ptr<MemcachedServer>> Run(const MemcachedOptions& options = {});
  std::string address() const;
  // An integer of the answer to `stats`, for example "cmd_get" or "evictions".
  absl::StatusOr<int64_t> Stat(const std::string& name) const;
};

// A relay in this process: what connects to its port is passed on to `target` ("host:port") byte by byte, until it is
// cut. A cut drops silently: nothing is closed, nothing is passed on, as a network that loses every packet. Each of the
// calls holds from its return on. Thread-safe.
class Relay {
 public:
  static absl::StatusOr<std::unique_ptr<Relay>> Run(const std::string& target);
  virtual ~Relay() = default;
  virtual std::string address() const = 0;  // "127.0.0.1:PORT"
  virtual int connections() const = 0;      // how many clients are connected
  virtual void Cut() = 0;                   // from now on no byte passes, in either direction; new connections hang
  virtual void CutReplies() = 0;            // only what the server sends is held back
  virtual void CutRequests() = 0;           // only what the clients send is held back
  virtual void Heal() = 0;                  // what was held back is passed on
  virtual void Reset() = 0;                 // closes every connection of now, with what was held back for it
};

// A port of the loopback that was free a moment ago.
absl::StatusOr<int> FreePort();

}  // namespace servers

#endif  // TESTS_SERVERS_SERVERS_H_
