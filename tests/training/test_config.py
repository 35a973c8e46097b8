"""Presets are valid and bundled sizes hold; a wrong configuration is one line that says what to do."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import napari_vqldm.training.run as run_module
from napari_vqldm.config import Config
from napari_vqldm.errors import ConfigError
from napari_vqldm.models.autoencoder import Autoencoder
from napari_vqldm.models.denoiser import Denoiser
from napari_vqldm.training.__main__ import main
from napari_vqldm.training.config import TrainConfig, load_train_config, preset_paths
from napari_vqldm.training.folder import RunFolder, differing_keys, open_run, stage_of_key, write_json

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("name", sorted(preset_paths()))
def test_preset_is_valid_and_linked(name: str) -> None:
    config = load_train_config(name)
    assert config.name == name
    assert config.model.family == name.removeprefix("smoke-").removeprefix("seed-")
    link = REPOSITORY / "training/configs" / f"{name}.toml"
    assert link.is_symlink() and link.resolve() == preset_paths()[name].resolve()


@pytest.mark.parametrize("name", ["ldm", "vq-ldm"])
def test_bundled_models_stay_small(name: str) -> None:
    config = load_train_config(name)
    assert config.gate == "full"
    assert config.model.denoiser is not None
    with torch.device("meta"):
        parts = [
            Autoencoder(config.model.autoencoder),
            Denoiser(config.model.denoiser, config.model.autoencoder.latent_channels),
        ]
    assert sum(p.numel() for part in parts for p in part.parameters()) <= 16_000_000


def test_codes_are_cached_in_full_precision() -> None:
    assert load_train_config("vq-ldm").latents.precision == "32-true"  # the codes of `reconstruct`
    assert load_train_config("ldm").latents.precision == "bf16-mixed"


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"autoencoder__stepz": 3}, "unknown key 'autoencoder.stepz'"),
        ({"autoencoder__crop": [3, 8, 8]}, "multiples of (2, 4, 4)"),
        ({"autoencoder__crop": [16, 8, 8]}, "up to (8, 16, 16)"),
        ({"denoiser__crop": [1, 2, 2]}, "multiples of (2, 2, 2)"),
        (
            {
                "model__window": [8, 16, 24],
                "model__denoiser__channels": [8, 16, 16],
                "model__denoiser__blocks": [1, 1, 1],
                "model__denoiser__attention": [False] * 3,
                "model__denoiser__strides": [[2, 2, 2]] * 2,
            },
            "not a multiple of (4, 4, 4)",
        ),
        ({"model__simulation__shape": [8, 16, 8]}, "smaller than model.window"),
        ({"data__gain_range": [2.0, 1.0]}, "low <= high"),
        ({"data": {"kind": "folder", "folder": "x"}}, "exclude each other"),
        ({"autoencoder__learning_rate": -1.0}, "autoencoder.learning_rate"),
        ({"model__denoiser__norm_groups": 5}, "multiples of norm_groups = 5"),
        (
            {"model__denoiser__attention": [True] * 2, "model__denoiser__head_channels": 7},
            "multiples of head_channels = 7",
        ),
        ({"data": []}, "data"),
        ({"data": 3}, "data"),
        ({"model": 3}, "model"),
        ({"model__simulation": 4}, "model.simulation"),
        ({"data": {"kind": "folder", "folder": "x"}, "model__denoiser": 4}, "model.denoiser"),
        ({"data": {"kind": ["folder"]}}, "data"),
    ],
)
def test_wrong_values_are_named(changes: dict[str, object], words: str, tiny: SimpleNamespace) -> None:
    with pytest.raises(ConfigError) as caught:
        tiny.config(**changes)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command_answers_errors_with_one_line_and_2(
    tmp_path: Path, tiny: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tiny.write_toml(tmp_path / "wrong.toml", tiny.values(autoencoder__stepz=3))
    few = tiny.values(model__target="input", data={"kind": "folder", "folder": str(tmp_path / "none")})
    del few["model"]["simulation"]
    few["model"]["denoiser"] = {**few["model"]["denoiser"]}
    folder = tiny.write_toml(tmp_path / "folder.toml", few)
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_text("no checkpoint at all")
    text_start = tiny.write_toml(tmp_path / "text.toml", tiny.values(denoiser__init_from=str(foreign)))
    as_it_is = tiny.write_toml(
        tmp_path / "kept.toml", tiny.values(autoencoder__steps=0, autoencoder__init_from="nowhere.safetensors")
    )
    bad_start = tiny.write_toml(tmp_path / "start.toml", tiny.values(denoiser__init_from="nowhere.safetensors"))
    huge = tiny.write_toml(tmp_path / "huge.toml", tiny.values(model__autoencoder__widths=[2**40, 2**40]))
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    good = tiny.write_toml(tmp_path / "good.toml", tiny.values())
    for command, words in [
        (["no-such-preset", "--out", str(tmp_path / "run")], "presets: "),
        ([str(wrong), "--out", str(tmp_path / "run")], "stepz"),
        ([str(folder), "--out", str(tmp_path / "run")], "is no folder"),
        ([str(good), "--out", str(in_the_way)], "give another --out"),
        ([str(good), "--out", str(tmp_path)], "no run folder"),
        ([str(good), "--out", str(tmp_path / "run"), "--stage", "denoiser"], "needs stage 'autoencoder'"),
        ([str(huge), "--out", str(tmp_path / "run"), "--dry-run"], "cannot be built"),
        ([str(bad_start), "--out", str(tmp_path / "run")], "does not exist"),
        ([str(bad_start), "--out", str(tmp_path / "run"), "--dry-run"], "does not exist"),
        ([str(as_it_is), "--out", str(tmp_path / "run"), "--stage", "latents"], "does not exist"),
        ([str(text_start), "--out", str(tmp_path / "run")], "foreign.safetensors"),
    ]:
        assert main(command) == 2, command
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1, error
        assert not (tmp_path / "run").exists(), command


def test_a_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["smoke-ldm", "--out", str(tmp_path / "run"), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert '"kl_weight"' in said and "denoiser:" in said
    assert not (tmp_path / "run").exists()


def test_a_run_leaves_the_settings_of_the_process_as_they_were(
    tmp_path: Path, bank_cache: Path, tiny: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def settings() -> tuple[int, bool, str]:
        return torch.get_num_threads(), torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()

    launch, seen = run_module.launch, []

    def launch_and_change(config: TrainConfig) -> object:
        fabric = launch(config)
        torch.backends.cudnn.benchmark = True  # what a GPU brings along
        torch.set_float32_matmul_precision("high")
        seen.append(settings())
        return fabric

    monkeypatch.setattr(run_module, "launch", launch_and_change)
    before = settings()
    with pytest.raises(ConfigError, match="needs stage"):
        tiny.run(tiny.config(threads=before[0] + 1), tmp_path / "run", stages=["denoiser"], cache=bank_cache)
    assert seen == [(before[0] + 1, True, "high")] and settings() == before


def test_ctrl_c_outside_of_the_stages_leaves_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("napari_vqldm.training.run.run_training", interrupted)
    assert main(["smoke-ldm", "--out", str(tmp_path / "run")]) == 130
    assert capsys.readouterr().err == "interrupted; run the same command again\n"


def test_a_changed_configuration_is_refused_with_its_key(tmp_path: Path, tiny: SimpleNamespace) -> None:
    folder = RunFolder(tmp_path / "run", tmp_path / "run/cache")
    everything = ["autoencoder", "latents", "denoiser"]
    open_run(folder, tiny.config(), None, everything, fresh=False)
    open_run(folder, tiny.config(), None, everything, fresh=False)
    open_run(folder, tiny.config(data__workers=2), None, everything, fresh=False)  # changes no result
    with pytest.raises(ConfigError, match=r"denoiser\.steps = 7, now it is 9"):
        open_run(folder, tiny.config(denoiser__steps=9), None, everything, fresh=False)
    with pytest.raises(ConfigError, match=r"autoencoder\.steps = 7.*--stage autoencoder"):
        open_run(folder, tiny.config(autoencoder__steps=9), None, ["denoiser"], fresh=True)

    for stage in ("autoencoder", "denoiser"):
        folder.state(stage).parent.mkdir(exist_ok=True)
        folder.state(stage).write_bytes(b"")
    open_run(folder, tiny.config(denoiser__steps=9), None, ["denoiser"], fresh=True)
    assert folder.state("autoencoder").exists() and not folder.state("denoiser").exists()
    open_run(folder, tiny.config(seed=1), None, everything, fresh=True)
    assert not folder.state("autoencoder").exists()


def test_a_key_younger_than_the_run_is_no_change(tmp_path: Path, tiny: SimpleNamespace) -> None:
    folder = RunFolder(tmp_path / "run", tmp_path / "run/cache")
    config = tiny.config()
    open_run(folder, config, None, ["autoencoder"], fresh=False)
    old = config.model_dump(mode="json")
    del old["autoencoder"]["init_from"], old["latents"]["precision"]
    write_json(folder.config, old)
    open_run(folder, config, None, ["autoencoder"], fresh=False)


def _keys(kind: type[Config], prefix: str = "") -> set[str]:
    return {prefix + name for name in kind.model_fields}


def test_every_key_belongs_to_the_first_stage_that_reads_it() -> None:
    stages = {key: stage_of_key(key + ".x") for key in _keys(TrainConfig)}
    assert {key for key, stage in stages.items() if stage == "denoiser"} == {"denoiser"}
    assert {key for key, stage in stages.items() if stage == "latents"} == {"latents"}
    assert stage_of_key("model.denoiser") == stage_of_key("model.denoiser.channels") == "denoiser"
    assert stage_of_key("model.diffusion.objective") == "denoiser"
    assert stage_of_key("model.autoencoder.widths") == stage_of_key("seed") == "autoencoder"


def test_differing_keys_are_dotted() -> None:
    assert differing_keys({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 1, "c": 3}, "e": 1}) == {"a.c", "d", "e"}


def test_anisotropic_denoisers_need_only_their_own_multiple(tiny: SimpleNamespace) -> None:
    config = tiny.config(
        model__window=[8, 16, 24],
        model__denoiser__channels=[8, 16, 16],
        model__denoiser__blocks=[1, 1, 1],
        model__denoiser__attention=[False] * 3,
        model__denoiser__strides=[[2, 2, 2], [2, 2, 1]],
        denoiser__crop=[4, 4, 2],
    )
    assert config.latent_shape == (4, 4, 6)


def test_a_run_killed_in_its_first_write_starts_again(tmp_path: Path, tiny: SimpleNamespace) -> None:
    config = tiny.config()
    folder = RunFolder(tmp_path / "run", tmp_path / "run" / "cache")
    folder.path.mkdir()
    (folder.path / ".config.json.0a1b2c.part").write_text('{"half', encoding="utf-8")
    open_run(folder, config, None, ["autoencoder"], False)
    assert folder.config.exists()
    other = RunFolder(tmp_path / "thesis", tmp_path / "cache")
    other.path.mkdir()
    (other.path / ".notes.part").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="no run folder"):
        open_run(other, config, None, ["autoencoder"], False)
    assert (other.path / ".notes.part").read_text(encoding="utf-8") == "mine"
