"""Odd values in every input: only right results and errors of the pack's own come of them."""

from detailers.dev.odd import host, trial

SOME = 120  # of those that are let in run through their nodes; the bench runs all


def check_only_right_results_and_own_errors_come_of_odd_values():
    with host.samples() as good:
        outcome = trial.try_some(good, list(good.nodes), SOME)
    print(outcome)
    assert not outcome.faults, "\n".join([str(outcome), *outcome.faults])
    assert outcome.counts[trial.OWN] > 10_000
    assert outcome.counts[trial.RESULT] > SOME / 2
