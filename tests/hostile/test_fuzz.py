"""A minute of random statements; `make fuzz` runs more of them."""

import fuzz


def test_random_statements_end_no_process_and_meet_no_internal_error(capsys):
    findings, crashes, failures, summary = fuzz.fuzz(fuzz.arguments(["--statements", "3000", "--seed", "12", "--seconds", "55"]))
    with capsys.disabled():
        print("\n", findings.ran, "statements", summary, dict(findings.states.most_common(8)))
    assert crashes == []
    assert findings.lost == [] and failures == []
    assert findings.internal == []
    # Most of the machine's time must not go into one error.
    assert findings.states["00000"] > findings.ran / 5
