import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy import ndimage
from torch import nn

from napari_vqldm.errors import CheckpointError, ShapeError, VolumeError
from napari_vqldm.metrics import features
from napari_vqldm.metrics.feature_net import NUM_FEATURES, FeatureNet, GroupNorm, compress_intensity, folded

VOXEL = features.VOXEL_SIZE_UM
SMALL = (8, 32, 32)


def weights(path, seed=0):
    """Weights as they are after initialization, with the output scaled to features of about unit spread."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = FeatureNet()
    save_file({k: v.half() for k, v in net.state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def extractor(tmp_path_factory):
    return features.load_extractor(weights=weights(tmp_path_factory.mktemp("mtfeat") / "random.safetensors"))


@pytest.fixture
def small(monkeypatch):
    """Windows of 8 x 32 x 32: what holds for them holds for large ones."""
    monkeypatch.setattr(features, "WINDOW", SMALL)


def volume(shape, seed=0, smooth=2.0):
    rng = np.random.default_rng(seed)
    return (8 * ndimage.gaussian_filter(rng.normal(size=shape), smooth)).astype(np.float32)


def test_the_network_has_the_stated_size(tmp_path):
    parameters = sum(p.numel() for p in FeatureNet().parameters())
    assert 1.0e6 < parameters < 1.4e6
    assert weights(tmp_path / "w.safetensors").stat().st_size <= 3_000_000


def test_a_whole_window_gives_64_finite_features(extractor):
    found = features.extract_features([volume((32, 128, 128))], VOXEL, extractor=extractor)
    assert found.shape == (1, NUM_FEATURES) and found.dtype == np.float32 and np.isfinite(found).all()
    assert extractor([], VOXEL).shape == (0, NUM_FEATURES)


def test_features_do_not_depend_on_what_else_is_in_the_set(small, extractor):
    volumes = [volume(SMALL, s) for s in range(6)]
    together = extractor(volumes, VOXEL)
    alone = np.concatenate([extractor([v], VOXEL) for v in volumes])
    assert np.allclose(together, alone, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-3  # and different volumes differ


def test_a_large_volume_gets_the_mean_of_its_windows(small, extractor):
    parts = [volume(SMALL, s) for s in range(4)]
    large = np.block([[[parts[0], parts[1]], [parts[2], parts[3]]]])
    assert large.shape == (8, 64, 64)
    assert np.allclose(extractor([large], VOXEL)[0], extractor(parts, VOXEL).mean(0), atol=1e-5)


def test_windows_cover_every_voxel_evenly(small):
    for shape in ((8, 33, 70), (9, 32, 100), (17, 64, 31)):
        marked = np.zeros([max(n, w) for n, w in zip(shape, SMALL, strict=True)])
        counter = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        seen = set()
        for window in features._windows(counter, VOXEL, 0):
            assert window.shape == SMALL
            seen.update(window.astype(int).ravel().tolist())
        assert len(seen) == counter.size, marked.shape


def test_a_small_volume_is_continued_by_reflection(small, extractor):
    cut = volume((6, 20, 32))
    padded = np.pad(cut, [(1, 1), (6, 6), (0, 0)], mode="symmetric")
    assert np.allclose(extractor([cut], VOXEL), extractor([padded], VOXEL), atol=1e-6)
    assert np.isfinite(extractor([volume((1, 3, 5))], VOXEL)).all()


def test_the_voxel_size_is_brought_to_that_of_training(small, extractor):
    """The same scene sampled twice as finely has nearly the same features; taken as it is it has others."""
    coarse = volume((8, 32, 32), 3, smooth=(1, 2, 2))
    fine = ndimage.zoom(coarse, (1, 2, 2), order=3, mode="grid-constant", grid_mode=True)
    base, resampled, ignored = (
        extractor([v], size)[0] for v, size in ((coarse, VOXEL), (fine, (0.2, 0.05, 0.05)), (fine, VOXEL))
    )
    assert np.abs(resampled - base).max() < 0.15 * np.abs(ignored - base).max()


def test_the_absolute_brightness_is_seen(small, extractor):
    """Group norm would hide it if it lay on the way of the identity."""
    plain, double = extractor([volume(SMALL), 2 * volume(SMALL)], VOXEL)
    assert np.abs(double - plain).max() > 0.05 * np.abs(plain).max()


def test_noise_is_compressed_little_and_crossings_much():
    values = compress_intensity(torch.tensor([0.0, 0.02, 1.0, 10.0]))
    assert values[0] == 0 and values[1] == pytest.approx(2 * 0.02, rel=0.01)
    assert values[3] / values[2] < 2.5


def test_norm_keeps_half_precision_and_agrees_with_torch():
    x = torch.randn(2, 16, 4, 6, 6)
    ours, theirs = GroupNorm(8, 16), nn.GroupNorm(8, 16)
    assert torch.allclose(ours(x), theirs(x), atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(x.bfloat16()).dtype == torch.bfloat16
    assert torch.allclose(ours(x.bfloat16()).float(), theirs(x), atol=0.05)


def test_folding_leaves_the_features_as_they_were():
    net = FeatureNet(batch_norm=True)
    x = torch.rand(6, 1, 8, 16, 16)
    for _ in range(3):
        net(x)
    net.eval()
    plain = folded(net)
    assert torch.allclose(plain(x), net(x), atol=1e-4)
    assert FeatureNet().load_state_dict(plain.state_dict())
    assert net.pool_norm is not None  # the original is untouched


def test_one_orientation_of_a_turned_copy_is_the_original(small, extractor):
    original = volume(SMALL, 5, smooth=1.0)
    turned = np.flip(np.rot90(original, 1, (1, 2)), 0)
    rows = extractor.oriented([turned], VOXEL)
    assert rows.shape == (1, 16, NUM_FEATURES)
    distance = np.abs(rows[0] - extractor([original], VOXEL)).max(axis=1)
    assert distance.min() < 1e-5 and np.sum(distance < 1e-5) == 1
    with pytest.raises(VolumeError, match="equal voxel sizes"):
        extractor.oriented([original], (0.2, 0.1, 0.2))


def test_volumes_that_are_none_are_refused(extractor):
    with pytest.raises(ShapeError, match="volume 1"):
        extractor([volume((4, 8, 8)), np.zeros((4, 4))], VOXEL)
    with pytest.raises(VolumeError, match="finite"):
        extractor([np.full((4, 8, 8), np.nan)], VOXEL)
    with pytest.raises(ShapeError, match="B, 1"):
        FeatureNet()(torch.zeros(2, 8, 8, 8))


def test_weights_are_checked_against_the_registry(tmp_path, monkeypatch):
    from napari_vqldm.training.features.release import release

    monkeypatch.setattr(features, "DATA", tmp_path / "data")
    monkeypatch.setattr(features, "REGISTRY", tmp_path / "data" / "features.json")
    with pytest.raises(CheckpointError, match="none is released"):
        features.load_extractor()
    digest = release(weights(tmp_path / "w.safetensors"), features.CURRENT_VERSION)
    assert features.load_extractor().sha256 == digest == features.available_versions()[features.CURRENT_VERSION]
    assert release(tmp_path / "w.safetensors", features.CURRENT_VERSION) == digest  # again: nothing changes
    with pytest.raises(CheckpointError, match="never changes"):
        release(weights(tmp_path / "other.safetensors", seed=1), features.CURRENT_VERSION)
    weights(tmp_path / "data" / f"{features.CURRENT_VERSION}.safetensors", seed=1)
    with pytest.raises(CheckpointError, match="SHA-256"):
        features.load_extractor()


def test_foreign_files_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="cannot read"):
        features.load_extractor(weights=tmp_path / "missing.safetensors")
    (tmp_path / "text").write_text("no weights")
    with pytest.raises(CheckpointError, match="not the weights"):
        features.load_extractor(weights=tmp_path / "text")
    save_file({"a": torch.zeros(3)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match="not the weights"):
        features.load_extractor(weights=tmp_path / "foreign.safetensors")
    save_file({"a": torch.zeros(800_000)}, tmp_path / "large.safetensors")
    with pytest.raises(CheckpointError, match="at most"):
        features.load_extractor(weights=tmp_path / "large.safetensors")


def test_released_extractors_are_small_whole_and_tell_filaments_from_blanks():
    assert features.CURRENT_VERSION in features.available_versions()
    from napari_vqldm.simulate import Simulator, tier

    simulator = Simulator(tier())
    scenes = simulator.sample(7, range(2))
    assert scenes.noisy is not None
    for version in features.available_versions():
        loaded = features.load_extractor(version)
        a, b, blank = loaded([*scenes.noisy[:, 0].numpy(), np.zeros((32, 128, 128))], VOXEL)
        assert np.linalg.norm(a - blank) > np.linalg.norm(a - b) / 2
        assert np.abs(np.stack([a, b])).max() < 30


def gate_rows(rng, strengths, models=True):
    """Features of sets whose distances are as the gate wants them."""

    def rows(shift=0.0, spread=1.0):
        return [(shift + spread * rng.normal(size=(64, 8))).astype(np.float32) for _ in range(2)]

    table = {"none": rows()}
    for name, values in strengths.items():
        for number, value in enumerate(values, start=1):
            table[f"{name} {value:g}"] = rows(0.8 * number)
    table |= {"blank": rows(20.0, 0.0), "noise_only": rows(15.0), "phase_scrambled": rows(12.0)}
    table["duplicated"] = [np.repeat(f[:2], 32, axis=0) + 8.0 for f in table["none"]]
    if models:
        table["model a"] = rows(0.5)
    return table


def test_the_gate_passes_what_it_should_and_fails_each_fault(load):
    gate, strengths = load("features_gate"), {"blur": [0.1, 0.2, 0.3], "gain": [1.1, 1.3, 1.7]}
    rng = np.random.default_rng(0)
    references = [rng.normal(size=(400, 8)) for _ in range(2)]
    good = gate_rows(rng, strengths)
    mirrored = gate_rows(rng, strengths)
    assert gate.judge(good, mirrored, strengths, references, 0.9)["passed"]

    wrong = dict(good) | {"blur 0.3": good["blur 0.1"]}
    verdict = gate.judge(wrong, wrong, strengths, references, 0.9)
    assert not verdict["monotone"]["blur"]["passed"] and verdict["monotone"]["gain"]["passed"] and not verdict["passed"]

    hidden = dict(good) | {"blank": good["none"]}
    verdict = gate.judge(hidden, mirrored, strengths, references, 0.9)
    assert not verdict["collapsed"]["blank"]["passed"] and not verdict["passed"]

    names = list(good)
    reversed_second = {n: [good[n][0], good[m][1]] for n, m in zip(names, names[::-1], strict=True)}
    assert not gate.judge(reversed_second, mirrored, strengths, references, 0.9)["verdicts"]["seeds_rank_alike"]

    assert not gate.judge(gate_rows(rng, strengths, models=False), mirrored, strengths, references, 0.9)["passed"]
    alone = {name: features[:1] for name, features in good.items()}
    verdict = gate.judge(alone, mirrored, strengths, references[:1], 0.9)
    assert not verdict["complete"] and not verdict["passed"]


def test_the_chance_between_two_draws_does_not_decide_the_gate(load):
    """The first draw lies beside the second by chance, and the change moves it nearer: it must count as a change."""
    gate, rng = load("features_gate"), np.random.default_rng(1)
    apart, step = np.zeros(8), np.zeros(8)
    apart[0], step[0] = 0.3, -0.1
    first, second = rng.normal(size=(64, 8)), rng.normal(size=(64, 8))
    first, second = first - first.mean(0) + apart, second - second.mean(0)
    strengths = {"move": [1.0, 2.0, 3.0]}
    rows, mirrored = (
        {"none": [f]} | {f"move {v:g}": [f + v * step] for v in strengths["move"]} for f in (first, second)
    )
    assert gate._distance(rows["move 1"][0], second) < gate._distance(first, second)
    others = {k: v[:1] for k, v in gate_rows(rng, {}).items() if k not in rows}
    verdict = gate.judge(rows | others, mirrored, strengths, [second], 0.9)
    assert verdict["monotone"]["move"]["passed"]
