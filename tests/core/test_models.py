"""Autoencoder and denoiser: receptive fields, strides, what starts at zero."""

import pytest
import torch
from monai.networks.nets.diffusion_model_unet import DiffusionUNetResnetBlock

from napari_vqldm.config import AutoencoderConfig, ConditionConfig, DenoiserConfig, QuantizerConfig
from napari_vqldm.errors import ConditionError, ShapeError
from napari_vqldm.models.autoencoder import Autoencoder
from napari_vqldm.models.condition import encode_condition
from napari_vqldm.models.denoiser import Denoiser, ScaleShiftBlock

SMALL = AutoencoderConfig(widths=(4, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1), latent_channels=3)
TALL = AutoencoderConfig(
    strides=((1, 2, 2), (2, 2, 2), (1, 1, 2)),
    widths=(4, 4, 6),
    encoder_blocks=(0, 1, 1),
    decoder_blocks=(0, 1, 0),
    latent_channels=2,
)


def alive(config: AutoencoderConfig) -> Autoencoder:
    """An autoencoder whose residual branches take part, as after training."""
    torch.manual_seed(0)
    net = Autoencoder(config).eval()
    for name, parameter in net.named_parameters():
        if name.endswith("gain"):
            torch.nn.init.constant_(parameter, 0.7)
    return net


@pytest.mark.parametrize("config", [SMALL, TALL])
def test_grids_follow_the_strides(config):
    net = alive(config)
    sz, sy, sx = config.downsampling_factor
    with torch.no_grad():
        encoding = net.encode(torch.randn(2, 1, 2 * sz, 3 * sy, 4 * sx))
        assert encoding.mean.shape == (2, config.latent_channels, 2, 3, 4)
        assert net.decode(encoding.mean).shape == (2, 1, 2 * sz, 3 * sy, 4 * sx)


@pytest.mark.parametrize("config", [SMALL, TALL])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_encoder_halo_covers_the_receptive_field_and_no_more_than_one_block(config, axis):
    net = alive(config)
    factor, halo = config.downsampling_factor[axis], net.encoder_halo[axis]
    shape = [f * 2 for f in config.downsampling_factor]
    cells = 2 * (halo // factor) + 5
    shape[axis] = cells * factor
    x = torch.randn(1, 1, *shape, requires_grad=True)
    middle = cells // 2
    net.encode(x).mean.select(2 + axis, middle).abs().sum().backward()
    touched = torch.nonzero(x.grad[0, 0].movedim(axis, 0).abs().amax(dim=(1, 2))).flatten()
    low, high = middle * factor - int(touched.min()), int(touched.max()) - ((middle + 1) * factor - 1)
    assert max(low, high) <= halo
    assert max(low, high) > halo - factor  # the halo is not wasteful either


@pytest.mark.parametrize("config", [SMALL, TALL])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_decoder_halo_covers_the_receptive_field(config, axis):
    net = alive(config)
    factor, halo = config.downsampling_factor[axis], net.decoder_halo[axis]
    shape = [2, 2, 2]
    shape[axis] = 2 * halo + 5
    z = torch.randn(1, config.latent_channels, *shape, requires_grad=True)
    middle = shape[axis] // 2
    volume = net.decode(z).movedim(2 + axis, 0)[middle * factor : (middle + 1) * factor]
    volume.abs().sum().backward()
    touched = torch.nonzero(z.grad[0].movedim(1 + axis, 0).abs().amax(dim=(1, 2, 3))).flatten()
    reach = max(middle - int(touched.min()), int(touched.max()) - middle)
    assert reach <= halo
    assert reach >= halo - 1


def test_kl_of_the_standard_normal_is_zero_and_of_a_shift_is_half_its_square():
    net = alive(SMALL)
    encoding = net.encode(torch.randn(1, 1, 4, 8, 8))
    known = type(encoding)(torch.full((1, 3, 2, 2, 2), 2.0), torch.zeros(1, 3, 2, 2, 2))
    assert torch.allclose(known.kl(), torch.full_like(known.mean, 2.0))
    assert torch.equal(known.sample(torch.zeros_like(known.mean)), known.mean)


def test_codes_have_no_posterior():
    net = alive(SMALL.model_copy(update={"quantizer": QuantizerConfig(codebook_size=16)}))
    encoding = net.encode(torch.randn(1, 1, 4, 8, 8))
    assert encoding.log_variance is None
    assert torch.equal(encoding.sample(torch.randn_like(encoding.mean)), encoding.mean)


@pytest.mark.parametrize("shape", [(1, 1, 3, 8, 8), (1, 2, 4, 8, 8), (1, 4, 8, 8)])
def test_wrong_shapes_are_named(shape):
    with pytest.raises(ShapeError, match="multiples of"):
        alive(SMALL).encode(torch.zeros(shape))


DENOISER = DenoiserConfig(
    channels=(8, 16), blocks=(1, 1), strides=((1, 2, 2),), attention=(False, True), head_channels=8, norm_groups=4
)


SCALED = DENOISER.model_copy(update={"scale_shift": True})


def woken(config: DenoiserConfig) -> Denoiser:
    """A denoiser whose zero-initialised layers were moved, as after training."""
    torch.manual_seed(1)
    net = Denoiser(config, 3).eval()
    for parameter in net.parameters():
        if parameter.abs().max() == 0:
            torch.nn.init.normal_(parameter, std=0.1)
    return net


@pytest.mark.parametrize("config", [DENOISER, SCALED], ids=["added", "scaled"])
def test_additions_start_without_effect(config):
    torch.manual_seed(0)
    net = Denoiser(config, 3).eval()
    torch.nn.init.normal_(net.out[-1].weight)
    x, t = torch.randn(2, 3, 4, 8, 8), torch.tensor([0.3, 0.9])
    plain = net(x, t)
    assert plain.abs().max() > 0
    loaded = net(x, t, torch.randn(2, 10), second_time=torch.tensor([0.1, 0.2]), control=torch.randn(2, 4, 4, 8, 8))
    assert torch.allclose(plain, loaded, atol=1e-6)


@pytest.mark.parametrize("config", [DENOISER, SCALED], ids=["added", "scaled"])
@pytest.mark.parametrize("what", ["condition", "second_time", "control", "t"])
def test_every_input_has_an_effect_once_trained(what, config):
    net = woken(config)
    x = torch.randn(2, 3, 4, 8, 8)
    inputs = {
        "t": torch.tensor([0.3, 0.9]),
        "condition": torch.randn(2, 10),
        "second_time": torch.tensor([0.1, 0.2]),
        "control": torch.randn(2, 4, 4, 8, 8),
    }
    before = net(x, **inputs)
    after = net(x, **{**inputs, what: inputs[what] * 0.5})
    assert (before - after).abs().max() > 1e-4


def test_dropped_rows_equal_no_condition_and_differ_from_a_zero_condition():
    net = woken(DENOISER)
    x, t = torch.randn(2, 3, 4, 8, 8), torch.tensor([0.3, 0.9])
    condition = torch.randn(2, 10)
    half = net(x, t, condition, drop=torch.tensor([True, False]))
    assert torch.allclose(half[0], net(x, t)[0], atol=1e-5)
    assert torch.allclose(half[1], net(x, t, condition)[1], atol=1e-5)
    assert (net(x, t) - net(x, t, torch.zeros(2, 10))).abs().max() > 1e-4


def test_anisotropic_strides_set_the_multiple():
    net = Denoiser(DENOISER, 3)
    assert net.multiple == (1, 2, 2)
    assert net(torch.randn(1, 3, 3, 4, 6), torch.rand(1)).shape == (1, 3, 3, 4, 6)
    with pytest.raises(ShapeError, match="multiples of"):
        net(torch.randn(1, 3, 3, 5, 6), torch.rand(1))


def test_a_scaled_block_with_no_embedding_is_that_of_monai():
    torch.manual_seed(0)
    ours, theirs = ScaleShiftBlock(8, 12, 16, 4), DiffusionUNetResnetBlock(3, 8, 12, 16, norm_num_groups=4)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if "time_emb" not in k}, strict=False)
    for block in (ours, theirs):
        torch.nn.init.zeros_(block.time_emb_proj.weight)
        torch.nn.init.zeros_(block.time_emb_proj.bias)
    x, embedding = torch.randn(2, 8, 4, 4, 4), torch.randn(2, 12)
    torch.testing.assert_close(ours(x, embedding), theirs(x, embedding))
    # half of the projection multiplies what was normalized: minus one leaves only the shift
    torch.nn.init.constant_(ours.time_emb_proj.bias[:16], -1.0)
    flat = ours(x, embedding) - ours.skip_connection(x)
    assert flat[..., 1:-1, 1:-1, 1:-1].std(dim=(2, 3, 4)).max() < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("config", [DENOISER, SCALED], ids=["added", "scaled"])
def test_the_denoiser_is_one_graph_to_the_compiler(config):
    net = woken(config)
    x, t, condition = torch.randn(2, 3, 4, 8, 8), torch.tensor([0.3, 0.9]), torch.randn(2, 10)
    compiled = torch.compile(net, fullgraph=True, backend="eager")  # fullgraph: a break in the graph is an error
    drop = torch.tensor([True, False])
    assert torch.allclose(compiled(x, t, condition, drop=drop), net(x, t, condition, drop=drop), atol=1e-6)


def test_condition_vector_is_standardised_and_complete():
    config = ConditionConfig(names=("length_density_um_per_um3",), log_mean=(0.0,), log_sd=(2.0,))
    vector = encode_condition(config, {"length_density_um_per_um3": 7.38905609893, "organisation": "aligned"})
    assert vector.tolist() == pytest.approx([1.0, 0, 0, 0, 1, 0])
    with pytest.raises(ConditionError, match="positive"):
        encode_condition(config, {"length_density_um_per_um3": -1.0, "organisation": "aligned"})
    with pytest.raises(ConditionError, match="one of aster"):
        encode_condition(config, {"length_density_um_per_um3": 1.0, "organisation": "round"})
    with pytest.raises(ConditionError, match="expected the conditions"):
        encode_condition(config, {"organisation": "aligned"})
