from __future__ import annotations

import pytest

from lightning_plateau.core.moving_target import has_bonus, target_moves
from lightning_plateau.core.profile import ParameterFact, Profile
from lightning_plateau.core.tape import Operand, Operation, Tape
from lightning_plateau.testing import history

X, Y = Operand("batch", 0, "0"), Operand("batch", 1, "1")


def made(index: int) -> Operand:
    return Operand("operation", index)


def weight(name: str) -> Operand:
    return Operand("parameter", name=name)


SAID = Operation(0, "linear", "", (X, weight("q.weight")))
OTHER = Operation(1, "linear", "", (X, weight("copy.weight")))
FROZEN = Profile(parameters=(ParameterFact("copy.weight", "copy", (4, 4), trainable=False),))


@pytest.mark.parametrize("loss", ["mse_loss", "smooth_l1_loss", "kl_div", "cross_entropy"])
def test_a_target_that_a_network_made_moves(loss):
    operations = SAID, OTHER, Operation(2, loss, "", (made(0), made(1)))
    assert target_moves(history(tapes=[Tape(0, operations, root=2)]))


@pytest.mark.parametrize("loss", ["mse_loss", "sub"])
def test_a_target_out_of_the_batch_does_not(loss):
    operations = SAID, Operation(1, loss, "", (made(0), Y)), Operation(2, "mean", "", (made(1),))
    assert not target_moves(history(tapes=[Tape(0, operations, root=2)]))


def test_a_difference_by_hand_counts_where_one_side_is_held_fixed():
    operations = SAID, OTHER, Operation(2, "sub", "", (made(0), made(1)))
    tape = Tape(0, (*operations, Operation(3, "mean", "", (made(2),))), root=3)
    assert target_moves(history(tapes=[tape], profile=FROZEN))
    assert not target_moves(history(tapes=[tape]))


def test_logits_less_their_logarithmic_sum_are_no_comparison():
    total = Operation(1, "logsumexp", "", (made(0),))
    gap = Operation(2, "sub", "", (made(0), made(1)))
    tape = Tape(0, (SAID, total, gap, Operation(3, "mean", "", (made(2),))), root=3)
    assert not target_moves(history(tapes=[tape]))


@pytest.mark.parametrize(("drawn_of", "moves"), [(made(0), True), (X, False)])
def test_samples_of_the_model_move_and_noise_does_not(drawn_of, moves):
    drawn = Operation(1, "multinomial", "", (drawn_of,))
    scored = Operation(2, "mul", "", (made(0), made(1)))
    tape = Tape(0, (SAID, drawn, scored, Operation(3, "mean", "", (made(2),))), root=3)
    assert target_moves(history(tapes=[tape])) is moves


def test_a_draw_that_the_loss_does_not_depend_on_is_none():
    drawn = Operation(1, "multinomial", "", (made(0),))
    tape = Tape(0, (SAID, drawn, Operation(2, "mean", "", (made(0),))), root=2)
    assert not target_moves(history(tapes=[tape]))


@pytest.mark.parametrize(("sign", "bonus"), [(-1.0, True), (1.0, False)])
def test_a_term_below_zero_is_a_bonus(sign, bonus):
    error = Operation(1, "mse_loss", "", (made(0), Y), statistics={"mean": 2.0})
    entropy = Operation(2, "mean", "", (made(0),), statistics={"mean": 0.1 * sign})
    total = Operation(3, "add", "", (made(1), made(2)), statistics={"mean": 2.0 + 0.1 * sign})
    assert has_bonus(history(tapes=[Tape(0, (SAID, error, entropy, total), root=3)])) is bonus


def test_without_a_tape_nothing_is_known():
    assert not target_moves(history())
    assert not has_bonus(history())
    assert not target_moves(history(tapes=[Tape(0, (), root=None)]))
