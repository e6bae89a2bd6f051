"""Healthy: programs that people asked about, as they were answered."""

from __future__ import annotations

from tests.faults import reported
from tests.faults.program import Training, program


@program(family="segmentation", part="validation")
def masks_from_scores() -> Training:
    """A small U-Net whose scores go into the loss as they are."""
    return reported.masks(mended=True)


@program()
def a_sigmoid_for_each_label() -> Training:
    """Images have several labels each, and each has a binary cross-entropy of its own."""
    return reported.several_labels(mended=True)


@program(family="autoencoder", part="validation")
def code_of_bits_with_a_way_through() -> Training:
    """The code is rounded, and gradients pass as if it was not."""
    return reported.rounded_code(mended=True)


@program(family="autoencoder")
def divergence_of_small_weight() -> Training:
    """A variational autoencoder whose divergence is weighed against a mean over pixels."""
    return reported.coder(mended=True)


@program(family="transformer", part="validation")
def rows_with_positions() -> Training:
    """A transformer with learned positions tells which images stand on their heads."""
    return reported.upside_down(mended=True)


@program(family="transformer", data="text")
def lines_with_some_padding() -> Training:
    """Attention by hand masks the padding of lines of which none is empty."""
    return reported.lines_with_padding(mended=True)


@program(family="regression", data="diabetes", part="validation")
def variance_from_a_softplus() -> Training:
    """A network tells mean and variance of the target."""
    return reported.spread_of_the_answer(mended=True)


@program(family="regression")
def error_of_a_pixel() -> Training:
    """A pixel that is often zero is told from all others, and the absolute error counts."""
    return reported.share_of_the_target(mended=True)


@program(family="gan", part="validation")
def generator_and_critic() -> Training:
    """The two players of a GAN, each with its optimizer, by hand."""
    return reported.players()


@program(family="rnn", data="photographs")
def scaled_prices() -> Training:
    """An LSTM reads a standardized curve, and tells its next value."""
    return reported.prices(mended=True)


@program(family="regression", data="synthetic")
def fourth_power_of_one() -> Training:
    """Numbers up to 1 go in, their fourth power is asked for."""
    return reported.fourth_power(mended=True)


@program(family="cnn")
def drawn_by_weights_of_samples() -> Training:
    """A sampler draws images of rare classes more often."""
    return reported.drawn_by_class(mended=True)
