// One connection that a relay passes on.

#ifndef TESTS_SERVERS_RELAYED_H_
#define TESTS_SERVERS_RELAYED_H_

#include <netinet/in.h>
#include <poll.h>

#include <string>
#include <vector>

namespace servers::internal {

// What is held back: requests are what the client sends, replies what the server sends.
struct Held {
  bool requests = false;
  bool replies = false;
};

// A client's connection, and the one to the server that is made for it as soon as requests may pass. Not thread-safe;
// nothing in it waits.
class Relayed {
 public:
  explicit Relayed(int client);
  Relayed(const Relayed&) = delete;
  Relayed& operator=(const Relayed&) = delete;
  ~Relayed();  // closes what is open; with a reset, unless both ends had closed

  // Adds what to poll for until Pass can go on.
  void AddWaited(const Held& held, std::vector<pollfd>* waited) const;

  // Does all that can be done now. False once it is over: both ends have closed, or one failed.
  bool Pass(const Held& held, const sockaddr_in& target);

 private:
  // What has been read of one direction and not yet been written, and how its end stands.
  struct Flow {
    std::string pending;
    bool ended = false;  // its source sends no more
    bool told = false;   // and its sink knows
  };

  static void Want(const Flow& flow, short* source, short* sink);
  void Connect(const sockaddr_in& target);
  void FinishConnect();
  void Move(int source, int sink, Flow* flow);

  const int client_;
  int server_ = -1;
  bool connected_ = false;
  bool failed_ = false;
  Flow requests_, replies_;
};

}  // namespace servers::internal

#endif  // TESTS_SERVERS_RELAYED_H_
