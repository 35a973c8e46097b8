"""MONAI's networks behind our interface: the same numbers from the same weights, and weights that travel both ways."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.networks.nets import VQVAE, AutoencoderKL, DiffusionModelUNet

from napari_vqldm.checkpoint import load_checkpoint, save_checkpoint
from napari_vqldm.coding import decode_latent, encode_volume
from napari_vqldm.config import (
    ConditionConfig,
    ModelConfig,
    MonaiKLConfig,
    MonaiUNetConfig,
    MonaiVQConfig,
    QuantizerConfig,
)
from napari_vqldm.errors import CheckpointError, ConfigError, ShapeError
from napari_vqldm.generate import generate
from napari_vqldm.latent import LatentSpace
from napari_vqldm.models.build import make_autoencoder, make_denoiser
from napari_vqldm.models.reference import (
    MonaiAutoencoderKL,
    MonaiDenoiser,
    MonaiVQVAE,
    load_monai_weights,
    monai_weights,
)

KL = MonaiKLConfig(
    network="monai-kl", channels=(8, 16), num_res_blocks=1, attention_levels=(False, True), norm_groups=4
)
VQ = MonaiVQConfig(
    network="monai-vq",
    channels=(8, 8),
    num_res_layers=1,
    num_res_channels=(8, 8),
    latent_channels=3,
    quantizer=QuantizerConfig(codebook_size=16),
)
UNET = MonaiUNetConfig(
    network="monai-unet", channels=(8, 16), num_res_blocks=1, attention=(False, True), head_channels=8, norm_groups=4
)


def monai_kl() -> AutoencoderKL:
    torch.manual_seed(1)
    net = AutoencoderKL(
        spatial_dims=3,
        channels=KL.channels,
        num_res_blocks=1,
        attention_levels=KL.attention_levels,
        latent_channels=4,
        norm_num_groups=4,
        with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False,
    )
    return randomized(net)


def monai_vqvae() -> VQVAE:
    torch.manual_seed(2)
    net = VQVAE(
        spatial_dims=3,
        in_channels=1,
        out_channels=1,
        channels=VQ.channels,
        num_res_layers=1,
        num_res_channels=VQ.num_res_channels,
        downsample_parameters=((2, 4, 1, 1),) * 2,
        upsample_parameters=((2, 4, 1, 1, 0),) * 2,
        num_embeddings=16,
        embedding_dim=3,
    )
    return randomized(net)


def monai_unet() -> DiffusionModelUNet:
    torch.manual_seed(3)
    net = DiffusionModelUNet(
        spatial_dims=3,
        in_channels=4,
        out_channels=4,
        num_res_blocks=1,
        channels=UNET.channels,
        attention_levels=UNET.attention,
        norm_num_groups=4,
        num_head_channels=8,
    )
    return randomized(net)


def randomized(net: torch.nn.Module) -> torch.nn.Module:
    """Fill what starts at zero: it would hide a branch that is never called."""
    with torch.no_grad():
        for parameter in net.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return net.eval()


def test_the_kl_autoencoder_is_monais() -> None:
    theirs, ours = monai_kl(), make_autoencoder(KL).eval()
    assert isinstance(ours, MonaiAutoencoderKL)
    load_monai_weights(ours, theirs.state_dict())
    volumes = torch.randn(2, 1, 8, 16, 16)
    with torch.no_grad():
        mean, sigma = theirs.encode(volumes)
        encoding = ours.encode(volumes)
        torch.testing.assert_close(encoding.mean, mean, rtol=0, atol=1e-5)
        torch.testing.assert_close((0.5 * encoding.log_variance).exp(), sigma, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(ours.decode(mean), theirs.decode(mean), rtol=0, atol=1e-5)


def test_the_vq_autoencoder_is_monais_in_evaluation_mode() -> None:
    theirs, ours = monai_vqvae(), make_autoencoder(VQ).eval()
    assert isinstance(ours, MonaiVQVAE)
    load_monai_weights(ours, theirs.state_dict())
    volumes = torch.randn(2, 1, 8, 16, 16)
    with torch.no_grad():
        latent = ours.encode(volumes).mean
        torch.testing.assert_close(latent, theirs.encode(volumes), rtol=0, atol=1e-5)
        assert torch.equal(ours.quantizer.nearest(latent), theirs.index_quantize(volumes))
        quantized = ours.quantizer(latent).quantized
        torch.testing.assert_close(ours.decode(quantized), theirs(volumes)[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("condition", [None, ConditionConfig()])
def test_the_denoiser_with_nothing_to_tell_is_monais(condition: ConditionConfig | None) -> None:
    theirs = monai_unet()
    ours = make_denoiser(UNET.model_copy(update={"condition": condition}), 4).eval()
    assert isinstance(ours, MonaiDenoiser)
    load_monai_weights(ours, theirs.state_dict())
    x_t, numbers = torch.randn(3, 4, 4, 8, 8), torch.tensor([0, 17, 999])
    with torch.no_grad():
        expected = theirs(x_t, numbers)
        torch.testing.assert_close(ours(x_t, numbers / 1000), expected, rtol=0, atol=1e-5)
        assert (ours(x_t, torch.zeros(3)) - expected).abs().max() > 1e-3  # the time arrives


def test_a_condition_has_an_effect_once_it_is_trained() -> None:
    ours = make_denoiser(UNET.model_copy(update={"condition": ConditionConfig()}), 4)
    randomized(ours)
    x_t, t, told = torch.randn(1, 4, 4, 8, 8), torch.tensor([0.5]), torch.ones(1, ConditionConfig().width)
    with torch.no_grad():
        difference = (ours(x_t, t, told) - ours(x_t, t)).abs().max()
        dropped = ours(x_t, t, told, drop=torch.tensor([True]))
        assert difference > 1e-4
        torch.testing.assert_close(dropped, ours(x_t, t))


@pytest.mark.parametrize("make, config", [(monai_kl, KL), (monai_vqvae, VQ)])
def test_autoencoder_weights_travel_both_ways(make, config) -> None:
    theirs = make()
    ours = make_autoencoder(config)
    load_monai_weights(ours, theirs.state_dict())
    back = make()
    back.load_state_dict(monai_weights(ours))
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name


def test_denoiser_weights_travel_both_ways_and_a_condition_does_not() -> None:
    theirs, ours = monai_unet(), make_denoiser(UNET, 4)
    load_monai_weights(ours, theirs.state_dict())
    assert all(torch.equal(tensor, monai_weights(ours)[name]) for name, tensor in theirs.state_dict().items())
    conditioned = make_denoiser(UNET.model_copy(update={"condition": ConditionConfig()}), 4)
    with pytest.raises(ConfigError, match="no condition vector"):
        monai_weights(conditioned)


def test_weights_of_other_sizes_are_refused_and_nothing_is_taken() -> None:
    ours = make_autoencoder(KL.model_copy(update={"latent_channels": 3}))
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"expected .* got"):
        load_monai_weights(ours, monai_kl().state_dict())
    assert all(torch.equal(tensor, before[name]) for name, tensor in ours.state_dict().items())
    with pytest.raises(CheckpointError, match=r"embedding\.weight"):
        load_monai_weights(make_autoencoder(VQ), monai_kl().state_dict())


def test_the_codebook_never_moves_while_coding_whatever_the_mode() -> None:
    """MONAI 1.6.1 moves its codebook in train mode even without gradients; ours moves by `update` alone."""
    theirs, ours = monai_vqvae(), make_autoencoder(VQ)
    load_monai_weights(ours, theirs.state_dict())
    volumes = torch.randn(2, 1, 8, 16, 16)
    theirs.train()
    ours.train()
    before = ours.quantizer.codebook.detach().clone()
    with torch.no_grad():
        theirs.encode_stage_2_inputs(volumes)
        ours.quantizer(ours.encode(volumes).mean)
    assert not torch.equal(theirs.state_dict()["quantizer.quantizer.embedding.weight"], before)
    assert torch.equal(ours.quantizer.codebook, before)


def test_averages_of_unused_codes_do_not_throw_them_away() -> None:
    """MONAI 1.6.1 starts its counters at 0, divides unused codes by almost nothing and throws them out of reach."""
    config = VQ.model_copy(update={"quantizer": QuantizerConfig(kind="ema", codebook_size=16, restart=False)})
    theirs, ours = monai_vqvae(), make_autoencoder(config)
    theirs.quantizer.quantizer.decay = 0.99
    load_monai_weights(ours, {k: v for k, v in theirs.state_dict().items() if "ema" not in k})
    start = ours.quantizer.codebook.detach().clone()
    volumes = torch.randn(2, 1, 8, 16, 16)
    theirs.train()
    with torch.no_grad():
        theirs(volumes)
        latent = ours.encode(volumes).mean
        codes = ours.quantizer(latent).code_indices
        ours.quantizer.update(latent, codes, torch.Generator().manual_seed(0))
    unused = torch.ones(16, dtype=torch.bool)
    unused[codes.unique()] = False
    assert unused.any()
    assert theirs.state_dict()["quantizer.quantizer.embedding.weight"][unused].norm(dim=1).max() > 1e3
    torch.testing.assert_close(ours.quantizer.codebook[unused], start[unused])


def model_file(path: Path, family: str) -> Path:
    autoencoder = make_autoencoder(KL if family == "ldm" else VQ)
    config = ModelConfig(
        family=family,  # type: ignore[arg-type]
        autoencoder=autoencoder.config,
        denoiser=UNET,
        diffusion={"objective": "epsilon", "sampler": "ddim", "steps": 3, "time_sampling": "uniform"},
        window=(8, 16, 16),
    )
    channels = autoencoder.latent_channels
    space = LatentSpace(randomized(autoencoder), torch.zeros(channels), torch.full((channels,), 2.0))
    denoiser = randomized(make_denoiser(UNET, channels))
    return save_checkpoint(path, config=config, space=space, denoiser=denoiser, dtype="float32")


@pytest.mark.parametrize("family", ["ldm", "vq-ldm"])
def test_a_checkpoint_keeps_the_networks_and_never_forgets_the_scale_factor(family: str, tmp_path: Path) -> None:
    """MONAI's tutorial samples with scale factor 1; here it is in the file and applied by the only way to decode."""
    model = load_checkpoint(model_file(tmp_path / "m.safetensors", family))
    assert model.config.autoencoder.network == ("monai-kl" if family == "ldm" else "monai-vq")
    latent = torch.randn(1, model.space.autoencoder.latent_channels, 2, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(model.space.decode(latent), model.space.autoencoder.decode(latent * 2.0))
    volumes = generate(model, count=2, seed=1)
    assert [volume.data.shape for volume in volumes] == [(8, 16, 16)] * 2
    assert float(abs(volumes[0].data - volumes[1].data).max()) > 0


def test_group_normalization_over_the_whole_volume_is_never_cut(tmp_path: Path) -> None:
    space = load_checkpoint(model_file(tmp_path / "m.safetensors", "ldm")).space
    volume = torch.randn(1, 1, 8, 32, 32)
    with pytest.raises(ShapeError, match="normalizes over the whole volume"):
        list(encode_volume(space, volume, max_voxels=4096))
    with pytest.raises(ShapeError, match=r"tiles of \(8, 16, 16\)"):
        list(encode_volume(space, volume, tile=(8, 16, 16)))
    whole = list(encode_volume(space, volume))[-1].result
    assert whole is not None
    with torch.no_grad():
        torch.testing.assert_close(whole.latent, space.encode(volume))
        cut = space.encode(volume[..., :16])
    assert (cut - whole.latent[..., :8]).abs().max() > 0.01  # why it is refused
    with pytest.raises(ShapeError, match="normalizes over the whole volume"):
        list(decode_latent(space, whole.latent, max_voxels=4096))


def test_the_vq_autoencoder_gives_the_same_in_tiles(tmp_path: Path) -> None:
    space = load_checkpoint(model_file(tmp_path / "m.safetensors", "vq-ldm")).space
    volume = torch.randn(1, 1, 16, 80, 32)
    whole = list(encode_volume(space, volume))[-1].result
    tiled = list(encode_volume(space, volume, tile=(16, 20, 32)))
    assert len(tiled) > 1 and tiled[-1].result is not None and whole is not None
    torch.testing.assert_close(tiled[-1].result.latent, whole.latent, rtol=0, atol=1e-6)
    one = list(decode_latent(space, whole.latent))[-1].result
    parts = list(decode_latent(space, whole.latent, tile=(4, 5, 8)))
    assert len(parts) > 1
    torch.testing.assert_close(parts[-1].result, one, rtol=0, atol=1e-6)
    # one voxel less of halo would not do: the receptive field is as wide as the halo says, rounded to latent voxels
    assert space.autoencoder.decoder_halo == (6, 6, 6)
