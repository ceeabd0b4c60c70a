"""Who is best, who has won, and what is said of it."""

import re

import pytest
from qan_task import add_episodes, made_up

from keras_drmad.tuners import luck
from keras_drmad.tuners.qan import summary
from keras_drmad.tuners.qan.search.episode import CONTEST, RANDOM, SCHEDULE, TEST, Episode
from keras_drmad.tuners.qan.search.ranking import Ranking
from keras_drmad.tuners.qan.search.schedules import Schedule
from keras_drmad.tuners.qan.training.report import REACHED

COSINE = Schedule("cosine", 0.1, 16)


def test_snapshots_are_ranked_by_a_bound_not_by_one_lucky_test():
    episodes = []
    costs = {1: [10.0], 2: [12, 12, 13, 11, 12, 12, 12, 12, 12], 3: [30, 20, 10]}
    for snapshot, of in costs.items():
        episodes += [Episode(0, TEST, 0, snapshot=snapshot, cost=c, ended=REACHED) for c in of]
    assert Ranking(episodes).best_snapshot().number == 2


def test_a_lucky_test_among_bad_neighbours_counts_less_than_a_good_neighbourhood():
    episodes = []
    for snapshot, cost in enumerate([30, 30, 30, 11, 30, 30, 30, 13, 12, 13, 12, 13, 12]):
        episodes.append(Episode(0, TEST, 0, snapshot=snapshot, cost=float(cost), ended=REACHED))
    assert Ranking(episodes).best_snapshot().number in (10, 11, 12)


# -- who has won ----------------------------------------------------------------------------


def held(folder, winner):
    """A contest, won by 4 and by 6."""
    oracle = made_up(folder)
    add_episodes(oracle, SCHEDULE, 14.0, schedule=COSINE)
    add_episodes(oracle, RANDOM, 16.0, 16.0, hits=False)
    add_episodes(oracle, TEST, 13.0, snapshot=1)
    oracle.learner.take_snapshot(1)
    better, worse = [8.0, 9.0], [12.0, 15.0]
    add_episodes(oracle, CONTEST, *(better if winner == "policy" else worse), snapshot=1)
    add_episodes(oracle, CONTEST, *(worse if winner == "policy" else better), schedule=COSINE)
    return oracle


def test_the_best_policy_is_who_has_won_the_contest(tmp_path):
    network = held(tmp_path, "policy").policy(0.02)
    schedule = held(tmp_path, "schedule").policy(0.02)
    assert network.network is not None and network.learning_rate is None
    assert schedule.network is None and schedule.learning_rate == COSINE


@pytest.mark.parametrize("winner", ["policy", "schedule"])
def test_the_summary_says_who_has_won_and_by_how_much(tmp_path, winner):
    said = re.search(r"The (\w+) is better, by (\S+)", summary.table(held(tmp_path, winner)))
    assert (said[1], float(said[2])) == (winner, 5.0)


def contest(folder, policy, schedule, **more):
    oracle = made_up(folder, **more)
    add_episodes(oracle, SCHEDULE, 14.0, schedule=COSINE)
    add_episodes(oracle, CONTEST, *policy, snapshot=1)
    add_episodes(oracle, CONTEST, *schedule, schedule=COSINE)
    return oracle


@pytest.mark.parametrize(
    "policy, schedule, clear",
    [
        ([8.0, 9.0, 8.0], [12.0, 15.0, 13.0], True),
        ([8.0, 14.0, 8.0], [12.0, 9.0, 13.0], False),  # by 1.3 ± 3.2
        ([8.0], [15.0], False),  # one seed says nothing
        ([8.0, 8.0], [8.0, 8.0], False),
    ],
)
def test_a_win_below_two_standard_errors_is_no_clear_difference(tmp_path, policy, schedule, clear):
    said = summary.verdict(contest(tmp_path, policy, schedule))
    assert ("is better" in said) == clear
    assert ("No clear difference" in said) != clear
    assert "`get_best_policy` returns" in said  # in any case
    assert "by -0" not in said


def test_of_an_objective_to_be_raised_the_difference_is_one_of_its_values(tmp_path):
    more = {"goal": None, "objective": "val_accuracy"}
    said = summary.verdict(contest(tmp_path, [-0.9, -0.8, -0.9], [-0.5, -0.5, -0.6], **more))
    assert "The policy is better, by 0.3333 ± 0.033" in said


def test_a_summary_says_where_no_schedule_reached_the_goal(tmp_path):
    oracle = made_up(tmp_path)
    add_episodes(oracle, SCHEDULE, 16.0, schedule=COSINE, hits=False)
    assert "No schedule has reached the goal, val_loss of 0.6, in 1 ep" in summary.verdict(oracle)
    add_episodes(oracle, SCHEDULE, 14.0, schedule=COSINE)
    assert "No schedule" not in summary.verdict(oracle)


@pytest.mark.parametrize(
    "contest, words", [(1, "The last episodes will compare"), (0, "that takes 20 episodes or more")]
)
def test_a_summary_says_that_nothing_was_compared(tmp_path, contest, words):
    assert words in summary.verdict(made_up(tmp_path, contest=contest))


def test_a_search_warns_once_where_no_schedule_reached_the_goal(tmp_path, caplog):
    oracle = made_up(tmp_path)
    add_episodes(oracle, RANDOM, 16.0, hits=False)
    for ended in ("01", "02"):  # as many as are searched
        add_episodes(oracle, SCHEDULE, 16.0, schedule=COSINE, hits=False)
        oracle.settle(ended)
        assert caplog.text.count("No schedule") == int(ended) - 1
    add_episodes(oracle, TEST, 16.0, hits=False)
    oracle.settle("03")
    assert caplog.text.count("No schedule") == 1


def test_the_summary_says_how_much_is_luck(tmp_path):
    oracle = held(tmp_path, "policy")
    # 14, 12 and 15 of the schedule, 13, 8 and 9 of the policy: √(18.7 / 4)
    noise = oracle.curriculum.ranking.score_noise()
    assert "differ by about 2.2 (standard deviation)" in luck.in_words(noise)
    assert luck.in_words(made_up(tmp_path / "other").curriculum.ranking.score_noise()) == ""


def test_the_summary_lists_the_costs_and_hits_of_each(tmp_path):
    oracle = held(tmp_path, "policy")
    oracle.curriculum.episodes[-1].hit = False
    found = {name: (costs, hits) for name, costs, hits in summary.rows(oracle)}

    def row(*words):
        return next(of for name, of in found.items() if all(word in name for word in words))

    assert row("policy", "contest") == ([8.0, 9.0], 2)
    assert row("schedule", "contest") == ([12.0, 15.0], 1)
    assert row("policy", "tests") == ([13.0], 1)
    assert row("random") == ([16.0, 16.0], 0)
    lines = summary.table(oracle).splitlines()
    shown = {words: [n for n in lines if words in n] for words in ("policy, contest", "random")}
    assert all(n in shown["policy, contest"][0] for n in ("8.5", "2/2"))
    assert all(n in shown["random"][0] for n in ("16", "0/2"))
