"""The bridge on fabricated runs: its commands, its numbers by brute force, its word."""

import copy
import itertools
import json
import math

import fabricated_bridge
import numpy as np
import pytest
import scipy.stats
import tyro
from fabricated_bridge import (
    DRAWS,
    EXACT,
    INEXACT,
    PROMPTS,
    base_mass,
    fabricated_mass,
    members,
    right,
)

import experiments.reproduce.command  # noqa: F401  (no window: backend Agg)
from experiments.bridge import (
    bridge_adaptive,
    bridge_algorithms,
    bridge_base,
    bridge_sft,
    grids,
    setting,
    toys,
)
from experiments.reproduce import plots, tables
from experiments.reproduce.config import Config
from experiments.reproduce.work import in_order
from jsharp import files, tasks
from jsharp.commands import evaluate, mode
from jsharp.commands.results import SEED
from jsharp.evaluate import RESAMPLES
from jsharp.train.config import ALGORITHMS

MODULES = (bridge_base, bridge_sft, bridge_adaptive, bridge_algorithms)


@pytest.fixture(autouse=True)
def closed():
    yield
    plots.plt.close("all")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    config = Config(names=(), output_dir=tmp_path_factory.mktemp("out"))
    fabricated_bridge.write(config)
    return config


def ends(values: np.ndarray) -> list[float]:
    """Mean and percentile interval, one resample at a time."""
    rows = np.random.default_rng(SEED).integers(
        0, len(values), (RESAMPLES, len(values))
    )
    low, high = np.quantile([values[row].mean() for row in rows], [0.025, 0.975])
    return [values.mean(), low, high]


def made(config, module):
    """measure, draw, tell and judge, with what a results file would hold."""
    found = module.EXPERIMENT.measure(config)
    found = json.loads(json.dumps(found, allow_nan=False))
    figures = module.EXPERIMENT.draw(found)
    assert list(figures) == [module.EXPERIMENT.name]
    figures[module.EXPERIMENT.name].canvas.draw()
    assert "|---" in module.EXPERIMENT.tell(found)
    for check in module.EXPERIMENT.judge(found):
        assert check.agrees in (True, False, None) and check.evidence
    return found


# The commands.


@pytest.mark.parametrize("quick", [True, False])
def test_every_command_is_one_that_jsharp_takes(tmp_path, quick):
    config = Config(names=(), output_dir=tmp_path, quick=quick)
    runs = in_order(run for module in MODULES for run in module.runs(config))
    assert not list(tmp_path.iterdir())
    for module in MODULES:
        module.EXPERIMENT.prepare(config)
    assert len(runs) == len({run.name for run in runs}) == (18 if quick else 52)
    kinds = {"mode": mode.Config, "evaluate": evaluate.Config}
    for run in runs:
        command, *words = run.command
        kind = kinds[command] if command in kinds else ALGORITHMS[words.pop(0)]
        parsed = tyro.cli(kind, args=words)
        for option in ("prompts", "input"):
            if (path := getattr(parsed, option, None)) is not None:
                assert (tmp_path / path).is_file()
        if (limit := getattr(parsed, "limit", None)) is not None:
            with (tmp_path / parsed.prompts).open() as lines:
                assert limit <= sum(1 for _ in lines)
        needed = {need.name for need in run.needs}
        mentioned = {
            other.name for other in runs if any(other.name in word for word in words)
        }
        assert mentioned - {run.name} == needed - {
            name for name in needed if name not in mentioned
        }


def test_prompts_are_of_one_law_and_none_is_judged_that_was_trained_on(tmp_path):
    config = Config(names=(), output_dir=tmp_path)
    setting.inputs(config)
    for task in setting.TASKS:
        known = tasks.load(task)
        every = {known.prompt(problem): problem for problem in known.train}
        parts = {}
        for part in ("train", "judged"):
            path = tmp_path / setting.prompts(config, task, part)
            parts[part] = list(files.read_lines(path))
            first = path.read_bytes()
            setting.inputs(config)
            assert path.read_bytes() == first
        asked = {k: {line["prompt"] for line in v} for k, v in parts.items()}
        assert not asked["train"] & asked["judged"]
        assert asked["train"] | asked["judged"] == set(every)
        assert len(parts["judged"]) == setting.judged(config)
        for line in parts["judged"][:20]:
            value = sum(every[line["prompt"]]) if task == "arithmetic" else 24
            assert line["answer"] == str(value)


def test_runs_of_one_grid_differ_by_their_data_alone(tmp_path):
    config = Config(names=(), output_dir=tmp_path)
    for one in [*grids.fixed(config), *grids.longer(config)]:
        words = dict(
            zip(one.training.words[2::2], one.training.words[3::2], strict=True)
        )
        steps = int(words["--num-train-epochs"]) * -(-one.n // setting.BATCH)
        longer = "/sft-longer-" in one.training.name
        assert steps == setting.STEPS * (setting.LONGER if longer else 1)
        assert (int(words["--limit"]), int(words["--num-generations"])) == (
            one.n,
            one.N,
        )


def test_a_longer_run_has_the_command_of_the_other_but_for_its_epochs(tmp_path):
    config = Config(names=(), output_dir=tmp_path)
    by = {(one.n, one.N): one.training.words for one in grids.fixed(config)}
    for one in grids.longer(config):
        pairs = zip(one.training.words, by[one.n, one.N], strict=True)
        differ = [(long, short) for long, short in pairs if long != short]
        assert [int(long) // int(short) for long, short in differ] == [setting.LONGER]
    assert len(grids.longer(config)) == 3


def test_the_budgets_are_met_by_plan(tmp_path):
    config = Config(names=(), output_dir=tmp_path)
    for m, one in grids.contenders(config):
        each = one.N or grids.OPTIONS.mean_draws
        assert one.n * each == pytest.approx(m, rel=0.01)


# The numbers.


def test_only_prompts_with_a_proven_mode_count(config):
    one = grids.fixed(config)[0]
    judged = setting.judgement(config, one.evaluation)
    np.testing.assert_allclose(judged.mass, fabricated_mass(one.evaluation.name)[EXACT])
    np.testing.assert_allclose(judged.base_mass, base_mass("arithmetic")[EXACT])
    marked = right(one.evaluation.name).mean(1)[EXACT]
    assert judged.accuracy is not None
    np.testing.assert_allclose(judged.accuracy, marked)
    assert judged.prompts == PROMPTS
    assert setting.queries(config, one.training) == 201 + 2 * one.n
    drawn = setting.drawn(config, "arithmetic")
    assert (drawn.on_mode == members("arithmetic")[EXACT]).all()


def test_base(config):
    found = made(config, bridge_base)
    for row in found["tasks"]:
        q, member = base_mass(row["task"]), members(row["task"])[EXACT]
        assert row["exact"] == PROMPTS - 1 and row["outscored"] == 0
        assert row["mass"] == sorted(q[EXACT].tolist())
        assert row["c_cov"] == pytest.approx(ends(1 / q[EXACT]))
        halved = np.where(np.arange(PROMPTS) == INEXACT, q / 2, q)
        assert row["c_cov_bounds"] == pytest.approx(
            [(1 / q).mean(), (1 / halved).mean()]
        )
        for k in (1, 3, DRAWS):
            some = list(itertools.combinations(range(DRAWS), k))
            hit = np.array([[row[list(s)].any() for s in some] for row in member])
            assert row["success"][k - 1] == pytest.approx(ends(hit.mean(1)))
            law = np.mean([1 - (1 - x) ** k for x in q[EXACT]])
            assert row["law"][k - 1] == pytest.approx(law)
        for test in row["tests"]:
            k, trials = test["k"], DRAWS // test["k"]
            won = [r[k * t : k * t + k].any() for r in member for t in range(trials)]
            each = np.repeat(1 - (1 - q[EXACT]) ** k, trials)
            law = scipy.stats.poisson_binom(each)
            tails = law.cdf(sum(won)), law.sf(sum(won) - 1)
            assert (test["count"], test["trials"]) == (sum(won), trials)
            assert test["p_value"] == pytest.approx(min(1, 2 * min(tails)), rel=1e-6)


def test_the_law_of_the_base_is_judged_by_its_tests(config):
    found = made(config, bridge_base)
    says = lambda: bridge_base.judge(found)[0].agrees

    def put(kind, p):
        for row in found["tasks"]:
            for test in row[kind]:
                test["p_value"] = p

    put("tests", 0.5)
    put("planted", 1e-9)
    assert says() is True
    found["tasks"][1]["tests"][2]["p_value"] = 1e-6
    assert says() is False
    put("tests", 0.5)
    found["tasks"][0]["planted"] = copy.deepcopy(found["tasks"][0]["tests"])
    assert says() is None
    # Bonferroni: one of several tests below the level for all is no refusal.
    put("planted", 1e-9)
    found["tasks"][0]["tests"][0]["p_value"] = 0.9 * found["false_alarm"]
    assert says() is True


def test_sft(config):
    found = made(config, bridge_sft)
    q = base_mass("arithmetic")[EXACT]
    assert found["base"] == pytest.approx(ends(q))
    by = {(one.n, one.N): one for one in grids.fixed(config)}
    assert len(found["cells"]) == len(by) == 9
    for cell in found["cells"]:
        name = by[cell["n"], cell["N"]].evaluation.name
        mass = fabricated_mass(name)[EXACT]
        perfect = np.array([1 - (1 - x) ** cell["N"] for x in q])
        assert cell["mass"] == pytest.approx(ends(mass))
        assert cell["gain"] == pytest.approx(ends(mass - q))
        cosine = np.sqrt(perfect * mass) + np.sqrt((1 - perfect) * (1 - mass))
        assert cell["distance"] == pytest.approx(ends(2 - 2 * cosine))
        assert cell["perfect"] == pytest.approx(perfect.mean())
        assert cell["accuracy"] == pytest.approx(ends(right(name).mean(1)[EXACT]))
        for x in cell["fractions"]:
            count = int((mass >= 1 - x["delta"]).sum())
            exact = scipy.stats.beta.ppf(0.025, count, len(q) - count + 1)
            assert x["sharpened"][0] == pytest.approx(count / len(q))
            assert x["sharpened"][1] == pytest.approx(np.nan_to_num(exact))
            assert x["perfect"] == (perfect >= 1 - x["delta"]).mean()
    for cell, one in zip(found["longer"], grids.longer(config), strict=True):
        mass = fabricated_mass(one.evaluation.name)[EXACT]
        short = fabricated_mass(by[one.n, one.N].evaluation.name)[EXACT]
        assert (cell["n"], cell["N"]) == (one.n, one.N)
        assert cell["mass"] == pytest.approx(ends(mass))
        assert cell["rise"] == pytest.approx(ends(mass - short))
    for N, nearer in zip((2, 8, 32), found["nearer"], strict=True):
        few, many = (
            fabricated_mass(by[n, N].evaluation.name)[EXACT] for n in (64, 1024)
        )
        perfect = 1 - (1 - q) ** N
        overlap = lambda mass, p=perfect: (
            np.sqrt(p * mass) + np.sqrt((1 - p) * (1 - mass))
        )
        assert nearer == pytest.approx(ends(2 * (overlap(few) - overlap(many))))
    cells = {(cell["n"], cell["N"]): cell["distance"][0] for cell in found["cells"]}
    x, y = (
        np.log([[f(n, N) for n in (64, 256, 1024)] for N in (2, 8, 32)])
        for f in (lambda n, N: n, lambda n, N: cells[n, N])
    )
    slope = ((x - x.mean(1)[:, None]) * y).sum() / ((x - x.mean(1)[:, None]) ** 2).sum()
    assert found["slope"][0] == pytest.approx(slope)
    assert found["slope"][1] < slope < found["slope"][2]


def test_one_size_has_no_slope():
    judged = {(64, 2): setting.Judged(np.full(4, 0.3), np.full(4, 0.2), None, 4)}
    assert bridge_sft._slope(judged, [64], [2]) is None


def test_nearer_is_of_the_distance(config):
    found = bridge_sft.measure(config)
    says = lambda nearer: bridge_sft.judge(found | {"nearer": nearer})[1].agrees
    less, more = [-0.2, -0.3, -0.1], [0.2, 0.1, 0.3]
    assert says([less] * 3) is True
    assert says([less, less, [-0.2, -0.4, 0.0]]) is None
    assert says([less, more, less]) is False
    assert says([[-0.2, -0.38, -0.01]] * 3) is None  # of one N alone it would show


def test_adaptive(config):
    found = made(config, bridge_adaptive)
    pairs = grids.contestants(config)
    assert len(pairs) == 2
    mass = np.array(
        [[fabricated_mass(x.evaluation.name)[EXACT] for x in pair] for pair in pairs]
    )
    q = base_mass("game24")[EXACT]
    for i, arm in enumerate(found["arms"]):
        assert arm["mass"] == pytest.approx(ends(mass[:, i].mean(0)))
        assert arm["queries"] == [201 + 2 * found["n"]] * 2
    difference = mass[:, 1].mean(0) - mass[:, 0].mean(0)
    assert found["difference"] == pytest.approx(ends(difference))
    assert found["arms"][0]["perfect"] == pytest.approx((1 - (1 - q) ** 8).mean())
    assert found["more_queries"] == 0
    order = sorted(range(len(q)), key=lambda b: q[b])
    assert found["quarters"][0]["base"] == pytest.approx(q[order[:3]].mean())
    assert found["quarters"][3]["mass"][1][0] == pytest.approx(
        mass[:, 1].mean(0)[order[-2:]].mean()
    )


@pytest.mark.parametrize(
    "interval, seeds, more, expected",
    [
        ([0.1, 0.05, 0.2], (0.1, 0.1), 0.02, True),
        ([-0.1, -0.2, -0.05], (-0.1, -0.1), -0.02, False),
        ([0.1, -0.05, 0.2], (0.1, 0.1), 0.0, None),
        ([0.1, 0.05, 0.2], (0.3, -0.1), 0.0, None),
        ([0.1, 0.05, 0.2], (0.1, 0.1), 0.2, None),
        ([-0.1, -0.2, -0.05], (0.1, -0.3), 0.0, None),
    ],
)
def test_adaptive_is_judged_at_equal_queries_only(
    config, interval, seeds, more, expected
):
    found = bridge_adaptive.EXPERIMENT.measure(config)
    found |= {"difference": interval, "more_queries": more}
    found["difference_of_seeds"] = [[x, x - 0.1, x + 0.1] for x in seeds]
    assert bridge_adaptive.judge(found)[0].agrees is expected


def test_algorithms(config, monkeypatch):
    names = ["rloo", "xpo", "rlhf", "sft", "ada-sft"]  # ascending, on the table
    asked = []

    def learn(name, logits, m, *, runs, seed):
        asked.append((name, m))
        shape = runs, len(logits)
        np.testing.assert_allclose(np.exp(logits[:, 0]), base_mass("arithmetic")[EXACT])
        return toys.Learnt(np.full(shape, 0.1 * names.index(name)), np.full(runs, m))

    monkeypatch.setattr(toys, "learn", learn)
    found = made(config, bridge_algorithms)
    planned = grids.contenders(config)
    assert asked == [(one.algorithm, m) for m, one in planned]
    q = base_mass("arithmetic")[EXACT]
    for row, (m, one) in zip(found["rows"], planned, strict=True):
        mass = fabricated_mass(one.evaluation.name)[EXACT]
        assert row["budget"] == m and row["algorithm"] == one.algorithm
        assert row["mass"] == pytest.approx(ends(mass))
        assert row["gain"] == pytest.approx(ends(mass - q))
        assert row["accuracy"] == pytest.approx(
            ends(right(one.evaluation.name).mean(1)[EXACT])
        )
    for each in found["rankings"]:
        at = {r["algorithm"]: r for r in found["rows"] if r["budget"] == each["budget"]}
        assert each["toy"] == names[::-1]
        assert each["model"] == sorted(at, key=lambda name: -at[name]["mass"][0])


@pytest.mark.parametrize("size", [2, 4, 5])
def test_kendall_of_all_orders(size):
    x = [float(i) for i in range(size)]
    for y in itertools.islice(itertools.permutations(x), 0, None, 7):
        found = bridge_algorithms.kendall(x, list(y))
        known = scipy.stats.kendalltau(x, y, method="exact", alternative="greater")
        assert found == pytest.approx(np.asarray(known))
    # With ties: by counting pairs.
    tau, p = bridge_algorithms.kendall([1.0, 2.0, 3.0], [1.0, 1.0, 2.0])
    assert tau == pytest.approx(2 / math.sqrt(3 * 2)) and p == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "found, expected",
    [
        (((0.04, 0.99), (0.01, 1.0)), True),
        (((0.04, 0.99), (0.2, 0.9)), None),
        (((0.04, 0.99), (0.97, 0.04)), None),  # 0.04 is not shown of two budgets
        (((0.04, 0.99), (0.99, 0.02)), False),
    ],
)
def test_rankings_are_judged_by_their_exact_p_values(found, expected):
    rankings = [
        {"budget": 1, "tau": 0.5, "p_value": p, "p_value_of_the_reverse": reverse}
        for p, reverse in found
    ]
    rows = [{"algorithm": "sft", "budget": 1, "gain": [0.1, 0.05, 0.2]}]
    ranked, moved = bridge_algorithms.judge({"rankings": rankings, "rows": rows})
    assert ranked.agrees is expected and moved.agrees is True
    rows.append({"algorithm": "xpo", "budget": 1, "gain": [-0.1, -0.2, -0.05]})
    _, moved = bridge_algorithms.judge({"rankings": rankings, "rows": rows})
    assert moved.agrees is False and "xpo at 1" in moved.evidence
    assert tables.interval([-0.1, -0.2, -0.05], 100) in moved.evidence
