"""The training of the feature extractor, on volumes of a few voxels."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from napari_vqldm.errors import ConfigError, TrainingError
from napari_vqldm.metrics.feature_net import FeatureNet
from napari_vqldm.metrics.features import load_extractor
from napari_vqldm.simulate import Simulator
from napari_vqldm.training.features import bank as bank_module
from napari_vqldm.training.features import loop, run
from napari_vqldm.training.features.bank import SCENE_LABELS, FeatureBank, build_feature_bank, scene_labels
from napari_vqldm.training.features.config import FeatureTrainConfig, load_feature_config, wide_simulation
from napari_vqldm.training.features.judge import judge
from napari_vqldm.training.features.losses import Heads, loss_terms, standardize
from napari_vqldm.training.features.views import TARGETS, ViewMaker, Views, draw, fixed

pytestmark = pytest.mark.slow  # a bank of simulated volumes and the training of networks on it

SIMULATION = wide_simulation().model_copy(update={"shape": (8, 24, 24), "length_density_um_per_um3": (0.8, 4.0)})


def small_config(**values: Any) -> FeatureTrainConfig:
    sizes: dict[str, Any] = {"num_volumes": 24, "num_validation": 16, "chunk": 4, "window": (8, 16, 16), "pairs": 6}
    return FeatureTrainConfig.model_validate({"simulations": (SIMULATION,)} | sizes | values)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> FeatureBank:
    lines: list[str] = []
    made = build_feature_bank(small_config(), tmp_path_factory.mktemp("bank"), 300.0, 1, lines.append)
    assert lines[-1] == "simulated 24 training and 16 validation volumes"
    return made


@pytest.fixture
def maker(bank: FeatureBank) -> ViewMaker:
    return ViewMaker(small_config(), bank, torch.device("cpu"))


@pytest.fixture
def fake_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock takes half a second (exact in binary): as many steps on any computer."""
    ticks: Iterator[int] = itertools.count()
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: 0.5 * next(ticks)))


def scene_of(*lines: list[list[float]]) -> Any:
    parameters = Simulator(SIMULATION).draw_parameters(0, 0)
    return SimpleNamespace(parameters=parameters, centre_lines=lambda: [np.array(line, float) for line in lines])


@pytest.mark.parametrize(
    "lines, lateral, axial",
    [
        ([[[0, 0, 0], [0, 1, 1]], [[0, 5, 5], [0, 3, 3]]], 1.0, 0.0),  # parallel, one of them backwards
        ([[[0, 0, 0], [0, 2, 0]], [[0, 0, 0], [0, 0, 2]]], 0.0, 0.0),  # a cross
        ([[[0, 0, 0], [0, 3, 0]], [[0, 0, 0], [0, 0, 1]]], 0.5, 0.0),  # three to one
        ([[[0, 0, 0], [4, 0, 0]]], 0.0, 1.0),  # upright
        ([[[0, 0, 0], [1, 1, 0]]], 1.0, 0.5),
        ([], 0.0, 0.0),
    ],
)
def test_order_parameters_of_known_scenes(lines: Any, lateral: float, axial: float) -> None:
    labels = dict(zip(SCENE_LABELS, scene_labels(scene_of(*lines)), strict=True))
    assert labels["lateral_order"] == pytest.approx(lateral, abs=1e-9)
    assert labels["axial_order"] == pytest.approx(axial, abs=1e-9)


def test_curvature_is_that_of_the_filaments() -> None:
    angle = np.linspace(0.0, 2.0, 81)
    arc = np.stack([np.zeros_like(angle), 4.0 * np.cos(angle), 4.0 * np.sin(angle)], axis=1)  # radius 4 um
    labels = dict(zip(SCENE_LABELS, scene_labels(scene_of(arc)), strict=True))
    assert np.exp(labels["log_curvature"]) == pytest.approx(0.25, rel=0.03)
    straight = dict(zip(SCENE_LABELS, scene_labels(scene_of([[0, 0, 0], [0, 9, 0]])), strict=True))
    assert np.exp(straight["log_curvature"]) == pytest.approx(0.01)


def test_the_bank_holds_the_volumes_of_the_simulator_with_their_labels(bank: FeatureBank) -> None:
    config = small_config()
    simulator = Simulator(SIMULATION)
    for row, index in ((int(bank.train[5]), 5), (int(bank.validation[3]), bank_module.VALIDATION_START + 3)):
        batch = simulator.sample(config.simulation_seed, [index], noisy=False)
        assert np.array_equal(bank.volumes[row], batch.clean[0, 0].numpy().astype(np.float16))
        assert bank.labels[row][0] == pytest.approx(np.log(batch.parameters[0].length_density_um_per_um3), rel=1e-5)
    assert not set(bank.train) & set(bank.validation)


def test_parts_are_mixed_by_weight_from_the_start() -> None:
    config = small_config(simulations=(SIMULATION, SIMULATION), weights=(3.0, 1.0), num_volumes=64, num_validation=16)
    chunks = [c for c in bank_module._chunks(config) if not c.validation]
    for end in (4, 8, 16):
        assert sum(c.part == 1 for c in chunks[:end]) == end // 4
    rows = [row for c in bank_module._chunks(config) for row in range(c.row, c.row + c.count)]
    assert rows == list(range(80))


def test_a_bank_that_is_too_slow_says_so(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="too few"):
        build_feature_bank(small_config(num_volumes=4000), tmp_path, 0.0, 1, lambda _: None)


def test_two_views_share_what_matters_and_differ_by_chance(maker: ViewMaker) -> None:
    rows = maker.bank.train[:4]
    plain = maker.views(rows, fixed(4, photons=1e7, background=0.0), np.random.default_rng(0), turn=False)
    first, second = plain.volumes.chunk(2)
    clean = torch.from_numpy(np.array(maker.bank.volumes[rows])).float()[:, None, :, :16, :16]
    assert torch.allclose(first, clean, atol=0.05) and not torch.equal(first, second)  # noise differs, nothing else
    turned = maker.views(rows, fixed(4, photons=1e7, background=0.0), np.random.default_rng(0))
    assert not torch.allclose(turned.volumes[:4], turned.volumes[4:], atol=0.2)
    assert turned.volumes.shape == (8, 1, 8, 16, 16) and turned.targets.shape == (4, len(TARGETS))


def test_targets_say_what_was_done(maker: ViewMaker) -> None:
    rows = maker.bank.train[:4]
    drawn = fixed(4, photons=200.0, gain=2.0, blur_after=0.1, scramble=0.9)
    views = maker.views(rows, drawn, np.random.default_rng(0))
    column = {name: views.targets[:, i] for i, name in enumerate(TARGETS)}
    assert torch.allclose(column["log_photons"], torch.tensor(200.0).log())
    assert torch.allclose(column["log_gain"], torch.tensor(2.0).log())
    assert torch.allclose(column["blur_after"], torch.tensor(0.1))
    # Scrambled filaments cannot be recognized: nobody is asked for them.
    assert (views.organisation == -100).all() and not views.known[:, TARGETS.index("log_density")].any()
    assert views.known[:, TARGETS.index("scramble")].all()


def test_a_gain_scales_and_fewer_photons_are_noisier(maker: ViewMaker) -> None:
    rows = maker.bank.train[:4]

    def made(**values: float) -> torch.Tensor:
        return maker.views(rows, fixed(4, **values), np.random.default_rng(0), count=1, turn=False).volumes

    plain = made()
    assert torch.allclose(made(gain=1.5), 1.5 * plain, atol=1e-5)
    clean = made(photons=1e8)
    assert (made(photons=20.0) - clean).std() > 1.5 * (plain - clean).std()
    assert made(blur_after=0.2).diff(dim=4).std() < 0.5 * plain.diff(dim=4).std()


def test_draws_stay_inside_their_ranges_and_shares() -> None:
    config = small_config()
    drawn = draw(config, np.random.default_rng(0), 4000)
    assert 15 <= drawn.photons.min() < 20 and 700 < drawn.photons.max() <= 1000
    assert np.mean(drawn.noise_free) == pytest.approx(config.augment.noise_free, abs=0.03)
    assert np.mean(drawn.scramble > 0) == pytest.approx(config.augment.scramble_share, abs=0.03)
    assert np.mean(drawn.gain != 1) == pytest.approx(config.augment.gain_share, abs=0.03)
    assert drawn.labels().shape == (4000, 7)


def views_of(count: int) -> Views:
    return Views(
        torch.zeros(2 * count, 1, 1, 1, 1),
        torch.zeros(count, 2),
        torch.ones(count, 2),
        torch.zeros(count).long(),
        torch.zeros(2 * count, 3, 1, 1, 1),
    )


def no_maps(count: int) -> torch.Tensor:
    """Guessed maps that are right for `views_of`."""
    return torch.zeros(2 * count, 2, 1, 1, 1)


def test_each_term_is_zero_for_what_it_wants() -> None:
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3))).repeat(8, 1)  # uncorrelated columns
    spread = signs / signs.std(dim=0)
    views, standardized = views_of(64), torch.ones(64, 2)
    right, logits = torch.ones(128, 2), torch.tensor([30.0, 0.0]).repeat(128, 1)
    terms = loss_terms(torch.cat([spread, spread]), right, logits, no_maps(64), views, standardized)
    for name, value in vars(terms).items():
        assert float(value) == pytest.approx(0.0, abs=1e-3), name
    collapsed = loss_terms(torch.ones(128, 3), right, logits, no_maps(64), views, standardized)
    assert collapsed.variance > 0.9
    copied = spread[:, :1].repeat(1, 3)
    terms = loss_terms(torch.cat([copied, copied]), right, logits, no_maps(64), views, standardized)
    assert terms.covariance > 1.9
    moved = loss_terms(torch.cat([spread, spread + 1]), right + 1, logits, no_maps(64), views, standardized)
    assert moved.invariance == pytest.approx(1.0) and moved.regression > 0.4


def test_unknown_targets_and_organisations_cost_nothing() -> None:
    views = views_of(4)
    hidden = Views(
        views.volumes, views.targets, torch.tensor([[1.0, 0.0]] * 4), torch.tensor([0, -100, -100, -100]), views.maps
    )
    values = torch.tensor([[0.0, 1000.0]]).repeat(8, 1)
    logits = torch.tensor([[30.0, 0.0], *[[0.0, 30.0]] * 3]).repeat(2, 1)
    terms = loss_terms(torch.randn(8, 3), values, logits, no_maps(4), hidden, torch.zeros(4, 2))
    assert float(terms.regression) == 0.0 and float(terms.organisation) < 1e-6


def test_the_learning_rate_rises_then_falls_to_zero_with_the_clock() -> None:
    config = small_config()
    rates = [loop.learning_rate(config, p) for p in np.linspace(0, 1, 201)]
    top = int(np.argmax(rates))
    assert top == pytest.approx(200 * config.warmup_share, abs=1) and max(rates) == pytest.approx(config.learning_rate)
    assert rates[0] > 0 and rates[-1] == pytest.approx(0.0, abs=1e-9) and loop.learning_rate(config, 1.5) < 1e-9
    assert all(a >= b for a, b in itertools.pairwise(rates[top:]))


def test_training_is_a_function_of_the_seed(maker: ViewMaker, fake_clock: None) -> None:
    def trained(seed: int) -> loop.Trained:
        return loop.train_extractor(small_config(), maker, seed, 6.0, lambda _: None, lambda _: None)

    first, again, other = trained(0), trained(0), trained(1)
    assert first.steps == again.steps >= 4
    assert all(torch.equal(a, b) for a, b in zip(first.net.parameters(), again.net.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first.net.parameters(), other.net.parameters(), strict=True))


@pytest.mark.slow
def test_training_learns_the_density(maker: ViewMaker, fake_clock: None) -> None:
    lines: list[dict[str, Any]] = []
    config = small_config(learning_rate=3e-3)
    trained = loop.train_extractor(config, maker, 1, 60.0, lambda _: None, lines.append)
    assert lines[-1]["variance"] < 0.7  # features spread: at first their deviations are nearly 1 too small
    rows = maker.bank.train
    views = maker.views(rows, fixed(len(rows)), np.random.default_rng(0))
    with torch.no_grad():
        values, _ = trained.heads(trained.net(views.volumes))
    truth = standardize(views.targets, trained.mean, trained.sd).repeat(2, 1)
    density = TARGETS.index("log_density")
    assert np.corrcoef(values[:, density], truth[:, density])[0, 1] > 0.5


def test_a_run_writes_weights_that_load_and_what_they_know(
    bank: FeatureBank, tmp_path: Path, fake_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "build_feature_bank", lambda *_: bank)
    files = run.run_features(small_config(), tmp_path, 4.0 / 60, 1, "cpu", reserve_s=0.0)
    assert [file.name for file in files] == ["mtfeat64-seed0.safetensors", "mtfeat64-seed1.safetensors"]
    loaded = [load_extractor(weights=file) for file in files]
    assert loaded[0].sha256 != loaded[1].sha256
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary["seed1"]["head_r2"]) == set(TARGETS) and summary["train_volumes"] == 24
    assert np.load(tmp_path / "validation-seed0.npy").shape == (16, 64)
    assert json.loads((tmp_path / "config.json").read_text())["pairs"] == 6


def test_a_judge_sees_perfect_heads(maker: ViewMaker) -> None:
    """Heads that know the answer explain all of the variance: the summary measures what it says."""

    class Oracle(Heads):
        def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return answers.pop(0)

    config = small_config()
    rows, drawn = maker.bank.validation, draw(config, np.random.default_rng(7), len(maker.bank.validation))
    mean, sd = torch.zeros(len(TARGETS)), torch.ones(len(TARGETS))
    answers: list[Any] = []
    labels = torch.from_numpy(np.concatenate([maker.bank.labels[rows][:, :-1], drawn.labels()], axis=1))
    for first in range(0, len(rows), config.pairs):
        part = slice(first, first + config.pairs)
        organisation = torch.from_numpy(maker.bank.labels[rows[part], -1]).long()
        answers.append((labels[part], torch.nn.functional.one_hot(organisation, 5).float()))
    net = FeatureNet().eval()
    summary, table = judge(config, maker, loop.Trained(net, Oracle(64, len(TARGETS), 5), mean, sd, 1, 1.0))
    assert all(value == pytest.approx(1.0) for value in summary["head_r2"].values() if value is not None)
    assert summary["organisation_accuracy"] == 1.0 and table.shape == (16, 64)


def test_configurations_are_checked_and_simulations_can_be_mixed_in(tmp_path: Path) -> None:
    file = tmp_path / "mix.toml"
    file.write_text(
        "pairs = 9\nweights = [2.0, 1.0]\n[[simulations]]\n[[simulations]]\nbrightness_cv = 0.4\n", encoding="utf-8"
    )
    config = load_feature_config(file)
    assert config.pairs == 9 and [s.brightness_cv for s in config.simulations] == [0.2, 0.4]
    assert config.simulations[1].length_density_um_per_um3 == (0.05, 1.5)
    file.write_text("piars = 9\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="piars"):
        load_feature_config(file)
    for wrong, message in (
        ({"weights": (1.0, 1.0)}, "one weight"),
        ({"seed_shares": (1.0,)}, "one share"),
        ({"window": (8, 32, 32)}, "at least"),
        ({"window": (8, 16, 12)}, "equal sizes"),
    ):
        with pytest.raises(ValueError, match=message):
            small_config(**wrong)


def test_the_mixture_that_comes_with_the_package_is_valid() -> None:
    config = load_feature_config(Path(run.__file__).with_name("mix.toml"))
    plain, labelled, deep = config.simulations
    assert plain == wide_simulation()
    assert labelled.labelling != plain.labelling and deep.optics.depth_um > 0
    assert deep.persistence_length_um == plain.persistence_length_um


def test_the_script_answers_without_an_installation_and_refuses_too_little_time(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "training" / "features.py"
    done = subprocess.run(
        [sys.executable, str(script), "--out", str(tmp_path / "out"), "--tiny", "--minutes", "0.1"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2 and "expected more than" in done.stderr, done.stderr
