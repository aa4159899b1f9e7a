// publish TOPIC FROM TO MS           reliable events "LABEL N" for all N from FROM to TO
// subscribe TOPIC CURSOR FILE MS     each event is appended to FILE as "event PUBLISHER LABEL N", a gap as "gap"; the
//                                    subscription itself as "begin"

#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/process/session.h"

namespace process_test {

using coord::Cluster;

void AddEventCommands(Session& session) {
  session.AddJoined("publish", [&session](Cluster& cluster, const Arguments& arguments) -> absl::StatusOr<std::string> {
    const absl::Time deadline = arguments.Deadline(3);
    coord::PublishOptions options;
    options.delivery = coord::Delivery::kReliable;
    for (int64_t n = arguments.Number(1); n <= arguments.Number(2); ++n) {
      const std::string payload = absl::StrCat(session.flags().instance, " ", n);
      const absl::Status published = cluster.events().Publish(arguments.Text(0), payload, deadline, options);
      if (!published.ok()) return published;
    }
    return std::string("published");
  });
  auto subscriptions = std::make_shared<std::vector<coord::Subscription>>();
  session.AddJoined(
      "subscribe", [subscriptions](Cluster& cluster, const Arguments& arguments) -> absl::StatusOr<std::string> {
        coord::SubscribeOptions options;
        options.cursor = arguments.Text(1);
        const std::string file = arguments.Text(2);
        AppendRecord(file, "begin");
        auto subscribed = cluster.events().Subscribe(
            arguments.Text(0),
            [file](const coord::Event& event) {
              AppendRecord(file, event.gap ? "gap" : absl::StrCat("event ", event.publisher, " ", event.payload));
            },
            arguments.Deadline(3), options);
        if (!subscribed.ok()) return subscribed.status();
        subscriptions->push_back(*std::move(subscribed));
        return std::string("subscribed");
      });
}

}  // namespace process_test
