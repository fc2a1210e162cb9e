"""`jsharp quantities`: what it prints is what the definitions give."""

import json
import math
import re

import numpy as np
import pytest

from theory.quantities_command import ROWS_SHOWN, main
from theory.report import DEFINITIONS

PI = np.array([[0.5, 0.3, 0.2], [0.9, 0.1, 0.0], [0.4, 0.4, 0.2]])
MU = np.array([0.5, 0.3, 0.2])
PIHAT = np.array([[0.95, 0.05, 0.0], [1.0, 0.0, 0.0], [0.5, 0.2, 0.3]])
OPTIONS = ["--n", "1", "8", "--eps", "0.25", "--delta", "0.1", "--beta", "0.5"]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.npz"
    np.savez(path, pi=PI, mu=MU)
    return str(path)


@pytest.fixture
def policy(tmp_path):
    path = tmp_path / "policy.json"
    path.write_text(json.dumps({"pi": PIHAT.tolist()}))
    return str(path)


@pytest.fixture
def numbers(table, policy, capsys):
    assert main([table, "--json", "--policy", policy, *OPTIONS]) == 0
    return json.loads(capsys.readouterr().out)


def test_json_agrees_with_hand_arithmetic(numbers):
    tops = np.array([0.5, 0.9, 0.8])
    assert numbers["C_cov"] == pytest.approx((MU / tops).sum(), rel=1e-13)
    assert numbers["Cbar_cov"] == pytest.approx((MU / PI.max(1)).sum(), rel=1e-13)
    assert numbers["margin"] == pytest.approx(0.5 / 0.3 - 1, rel=1e-13)
    assert numbers["per_prompt"]["Y_star"] == [[0], [0], [0, 1]]
    tilted = PI**3 / (PI**3).sum(axis=1, keepdims=True)  # beta = 1/2: power 1 + 1/beta
    np.testing.assert_allclose(numbers["pi_star_beta"], tilted, rtol=1e-13)
    best_of_8 = [0.4 / 0.8 * (1 - 0.2**8)] * 2 + [0.2**8]
    np.testing.assert_allclose(numbers["pi_BoN"]["8"][2], best_of_8, rtol=1e-12)
    np.testing.assert_allclose(numbers["pi_BoN"]["1"], PI, rtol=1e-14)
    np.testing.assert_allclose(np.sum(numbers["pi_AdaBoN"], axis=1), 1.0, rtol=1e-13)
    with np.errstate(divide="ignore"):
        log_ratio = np.log(np.where(tilted > 0, tilted, 1) / np.where(PI > 0, PI, 1))
    value = (tilted * np.log(np.where(PI > 0, PI, 1))).sum(1)
    objective = (MU * (value - 0.5 * (tilted * log_ratio).sum(1))).sum()
    assert numbers["J_beta(pi_star_beta)"] == pytest.approx(objective, rel=1e-12)


def test_json_counts(numbers):
    # delta = 0.1 needs 0.5^N, 0.1^N, 0.2^N <= 0.1: N = 4, 1, 2. Prompt 0 weighs 1/2.
    assert numbers["per_prompt"]["N"] == [4, 1, 2]
    assert numbers["N"] == 4
    fraction = 2 * math.log(1000 / 0.05) / ((1 - 2**-0.5) ** 2 * 0.1 * 0.25)
    assert numbers["n"] == math.ceil(fraction)
    assert numbers["m"] == numbers["n"] * numbers["N"]
    mean = np.dot(MU, numbers["per_prompt"]["E_N_mu"])
    assert numbers["E_N_mu"] == pytest.approx(mean, rel=1e-13)
    assert numbers["E_m"] == pytest.approx(numbers["n"] * mean, rel=1e-13)
    assert numbers["mu_threshold"] == pytest.approx(math.log(20), rel=1e-14)
    assert numbers["n_guaranteed"] == math.ceil(2 * fraction)
    assert numbers["N_guaranteed"] == 5  # 0.5^5 <= 0.05


def test_json_compares_the_policy(numbers):
    pihat = numbers["pihat"]
    assert pihat["sharpened_fraction"] == pytest.approx(0.8)  # prompt 2 keeps 0.7 on Y*
    concentrability = (MU * (PIHAT**2 / np.where(PI > 0, PI, 1)).sum(1)).sum()
    assert pihat["C_pi"] == pytest.approx(concentrability, rel=1e-13)
    squares = (np.sqrt(PIHAT) - np.sqrt(PI)) ** 2
    hellinger = (MU * squares.sum(1)).sum()
    assert pihat["D_H^2(pi,pi_base)"] == pytest.approx(hellinger, rel=1e-12)
    ratio = np.where(PIHAT > 0, PIHAT, 1) / np.where(PI > 0, PI, 1)
    kl = (MU * np.where(PIHAT > 0, PIHAT * np.log(ratio), 0).sum(1)).sum()
    assert pihat["KL(pi||pi_base)"] == pytest.approx(kl, rel=1e-12)
    assert pihat["C_pi_base/pi;beta"] == "inf"  # pihat forgets y=2 on prompt 0


def test_table_prints_every_quantity_and_no_number_is_cut(table, policy, capsys):
    assert main([table, "--policy", policy, *OPTIONS]) == 0
    printed = capsys.readouterr().out
    for name in [*DEFINITIONS, "pi_BoN 8", "pi_AdaBoN", "pihat", "KL(pi||pi_base)"]:
        assert name in printed
    assert "E_mu[1/pi(Y*|x)]" in printed  # brackets are text, not markup
    assert "…" not in printed


def test_a_long_table_says_what_it_leaves_out(tmp_path, capsys):
    path, prompts = tmp_path / "long.npz", ROWS_SHOWN + 5
    np.savez(
        path, pi=np.tile([0.75, 0.25], (prompts, 1)), mu=np.ones(prompts) / prompts
    )
    assert main([str(path), "--n", "2"]) == 0
    printed = capsys.readouterr().out
    assert "5 more rows: see --json" in printed
    assert f"{2 * prompts - ROWS_SHOWN} more rows: see --json" in printed


BAD_OPTIONS = {
    "--n": ("0", r"--n must be integers from 1 to 2\^53, found \(0,\)"),
    "--eps": ("1.5", r"--eps must be in \[1e-12, 1\), found 1.5"),
    "--delta": ("0", r"--delta must be in \[1e-12, 1\), found 0.0"),
    "--gamma": ("1", r"--gamma must be in \[0, 1\), found 1.0"),
    "--p": ("0.5", "--p must be a finite number of at least 1, found 0.5"),
    "--beta": ("nan", r"--beta must be in \[1e-6, 1e6\], found nan"),
    "--class-size": ("0", "--class-size must be from 1 to 1e300, found 0"),
    "--rho": ("2", r"--rho must be in \[1e-12, 1\), found 2.0"),
}


@pytest.mark.parametrize(
    ("option", "value"),
    [("--rho", "1e-320"), ("--eps", "5e-324"), ("--beta", "1e-320")]
    + [("--class-size", "9" * 321), ("--n", "9" * 321)],
)
def test_values_that_would_overflow_are_refused(table, capsys, option, value):
    assert main([table, option, value]) == 2
    assert f"jsharp quantities: {option} must be" in capsys.readouterr().err


@pytest.mark.parametrize("option", BAD_OPTIONS)
def test_bad_options_are_named(table, capsys, option):
    value, message = BAD_OPTIONS[option]
    assert main([table, option, value]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("jsharp quantities: ")
    assert re.search(message, output.err)


def test_a_bad_table_is_refused_before_any_number(tmp_path, table, capsys):
    path = tmp_path / "bad.json"
    path.write_text('{"pi": [[0.5, 0.4]], "mu": [1.0]}')
    for args in ([str(path)], [table, "--policy", str(path)]):
        assert main(args) == 2
        output = capsys.readouterr()
        assert output.out == ""
        assert (
            "bad.json: pi[0] must sum to 1 within 1e-09, its sum is 0.9" in output.err
        )


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    for words in ("FILE is .json", "Example: jsharp quantities", "--class-size INT"):
        assert words in printed
