"""Sick: programs that people asked about, written anew; what was answered is in `healthy_asked`."""

from __future__ import annotations

from tests.faults import reported
from tests.faults.program import Training, program


@program("LP702", "LP705", family="segmentation")
def masks_from_rectified_scores() -> Training:
    """The published network ends in a ReLU, and the loss wants logits: nothing is ever unlikely."""
    return reported.masks(mended=False)


@program("LP702", "LP105")
def one_softmax_for_several_labels() -> Training:
    """Images have several labels each, and cross-entropy is given them as ones and zeros."""
    return reported.several_labels(mended=False)


@program("LP304", family="autoencoder")
def code_of_rounded_numbers() -> Training:
    """The code of an autoencoder is rounded to bits, and its encoder stays as it was drawn."""
    return reported.rounded_code(mended=False)


@program("LP806", "LP707", family="autoencoder")
def divergence_of_full_weight() -> Training:
    """The error is a mean over pixels, the divergence a sum over the code: all faces are alike."""
    return reported.coder(mended=False)


@program("LP802", "LP803", accepted=("LP106", "LP807"), family="transformer")
def rows_without_positions() -> Training:
    """A transformer without positions is to tell which images stand on their heads."""
    return reported.upside_down(mended=False)


@program("LP204", "LP207", accepted=("LP201",), family="transformer", data="text")
def one_line_of_padding() -> Training:
    """One of the lines is empty: its attention is masked throughout, and all becomes NaN."""
    return reported.lines_with_padding(mended=False)


@program("LP207", "LP204", family="regression", data="diabetes", part="validation")
def variance_from_a_rectifier() -> Training:
    """The variance that a network tells comes from a ReLU, and a logarithm follows."""
    return reported.spread_of_the_answer(mended=False)


@program("LP207", "LP204", family="regression", part="validation")
def error_as_a_share_of_zero() -> Training:
    """The error is measured in percent of targets of which many are zero."""
    return reported.share_of_the_target(mended=False)


@program("LP410", part="validation")
def head_made_in_each_forward() -> Training:
    """The last layer is made in ``forward``: each step trains one that is then thrown away."""
    return reported.head_in_forward(mended=False)


@program("LP304", "LP410", family="gan", part="validation")
def generator_before_a_detached_critic() -> Training:
    """The generator's loss is computed from ``made.detach()``, as the critic's is."""
    return reported.players(judged=False)


@program("LP410", "LP304", family="gan", part="validation")
def two_optimizers_for_the_critic() -> Training:
    """Both optimizers of a GAN were given the parameters of the critic."""
    return reported.players(optimized=False)


@program("LP110", "LP101", accepted=("LP502",), family="rnn", data="photographs", part="validation")
def prices_as_they_are() -> Training:
    """An LSTM reads a curve in the hundreds, and answers with a flat line."""
    return reported.prices(mended=False)


@program(
    "LP110", "LP101", accepted=("LP502",), family="regression", data="synthetic", part="validation"
)
def fourth_power_of_a_hundred() -> Training:
    """Numbers up to 100 go in, their fourth power is asked for."""
    return reported.fourth_power(mended=False)


@program("LP107", "LP801", accepted=("LP108",), family="cnn", part="validation")
def drawn_by_weights_of_classes() -> Training:
    """A sampler is given a weight for each class, not for each sample: it draws ten images."""
    return reported.drawn_by_class(mended=False)
