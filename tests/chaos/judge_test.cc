// Each promise is broken once, and the judge says so.

#include "tests/chaos/judge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace chaos {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

FencedHistory Fenced() {
  FencedHistory history;
  history.name = "lock";
  history.counts = {{"a", 10, 1, 1, 100, 200}, {"b", 11, 4, 2, 200, 300}, {"a", 12, 9, 4, 400, 400}};
  history.outcomes = {3, 1, 2};
  history.one_each = true;
  history.stands = 4;
  return history;
}

TEST(JudgeTest, WhatIsPromisedIsNoViolation) {
  EXPECT_THAT(JudgeFenced(Fenced()), IsEmpty());
  // Of a term that writes several times the fence stays.
  FencedHistory term = Fenced();
  term.one_each = false;
  term.counts[1] = {"a", 10, 4, 2, 150, 300};
  EXPECT_THAT(JudgeFenced(term), IsEmpty());
  EXPECT_THAT(JudgeSums({{{"a", {1, 3}}, {"b", {2}}}, {3, 1, 0}, 4}), IsEmpty());
  // A later life gets again what came when the cursor had not moved yet.
  EXPECT_THAT(JudgeEvents({{{"p", {{1, 2}, {3}}}}, {{"c", {{{"p", {1}}}, {{"p", {1, 2}}}}}}}), IsEmpty());
}

TEST(JudgeTest, TwoOwnersAtATime) {
  FencedHistory history = Fenced();
  history.counts[1].from = 199;
  EXPECT_THAT(JudgeFenced(history), ElementsAre(HasSubstr("b with fence 11 and a with fence 10 at a time")));
  history.stands.reset();
  EXPECT_THAT(JudgeFenced(history), ElementsAre(HasSubstr("at a time")));
}

TEST(JudgeTest, AFenceThatDoesNotGrow) {
  FencedHistory history = Fenced();
  history.counts[2].fence = 11;
  EXPECT_THAT(JudgeFenced(history), ElementsAre(HasSubstr("the fence does not grow")));
  history.counts[2].fence = 9;
  history.stands.reset();
  EXPECT_THAT(JudgeFenced(history), ElementsAre(HasSubstr("the fence goes back")));
}

TEST(JudgeTest, CountsThatAreLostOrMadeTwice) {
  FencedHistory history = Fenced();
  history.counts[2].count = 2;
  EXPECT_THAT(JudgeFenced(history), ElementsAre(HasSubstr("a write is lost")));
  history = Fenced();
  history.stands = 2;
  EXPECT_THAT(JudgeFenced(history), ElementsAre(HasSubstr("some are lost")));
  history.stands = 5;
  EXPECT_THAT(JudgeFenced(history), ElementsAre(HasSubstr("some were made twice")));
  history = Fenced();
  history.counts[1].revision = 1;
  EXPECT_THAT(JudgeFenced(history), ElementsAre(HasSubstr("two writes have one revision")));
  history = Fenced();
  history.outcomes = {4, 0, 0};
  EXPECT_THAT(JudgeFenced(history), ElementsAre(HasSubstr("4 were acknowledged and 3 written down")));
}

TEST(JudgeTest, SumsThatAreLostOrMadeTwice) {
  EXPECT_THAT(JudgeSums({{{"a", {1}}, {"b", {1}}}, {1, 1, 0}, 2}), ElementsAre(HasSubstr("two additions")));
  EXPECT_THAT(JudgeSums({{{"a", {2, 1}}}, {2, 0, 0}, 2}), ElementsAre(HasSubstr("a made 1 after 2")));
  EXPECT_THAT(JudgeSums({{{"a", {1, 2}}}, {2, 0, 0}, 1}), ElementsAre(HasSubstr("some are lost")));
  EXPECT_THAT(JudgeSums({{{"a", {1, 2}}}, {2, 1, 0}, 4}), ElementsAre(HasSubstr("some were made twice")));
  EXPECT_THAT(JudgeSums({{{"a", {1, 2}}}, {3, 0, 0}, 3}), ElementsAre(HasSubstr("2 written down")));
}

TEST(JudgeTest, EventsThatAreLostOrOutOfOrderOrOughtNotToBe) {
  EXPECT_THAT(JudgeEvents({{{"p", {{1, 2}, {}}}}, {{"c", {{{"p", {2}}}}}}}),
              ElementsAre(HasSubstr("c: event 1 of p was stored and is lost")));
  EXPECT_THAT(JudgeEvents({{{"p", {{1, 2}, {}}}}, {{"c", {{{"p", {2, 1}}}}}}}),
              ElementsAre(HasSubstr("event 1 of p came after 2")));
  EXPECT_THAT(JudgeEvents({{{"p", {{1}, {2}}}}, {{"c", {{{"p", {1, 2}}}}}}}),
              ElementsAre(HasSubstr("event 2 of p came, which was told not to be stored")));
}

}  // namespace
}  // namespace chaos
