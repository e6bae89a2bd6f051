"""For tests of rules, ours and yours: small histories, arbitrary histories, the contract.

``history`` builds a history from plain numbers, ``histories`` draws arbitrary ones, and
``assert_rule_contract`` holds a rule to what every rule promises. The last two need the extra
``test``: ``pip install 'lightning-plateau[test]'``.
"""

from __future__ import annotations

from lightning_plateau.testing.builders import history
from lightning_plateau.testing.contract import assert_rule_contract
from lightning_plateau.testing.strategies import histories

__all__ = ["assert_rule_contract", "histories", "history"]
