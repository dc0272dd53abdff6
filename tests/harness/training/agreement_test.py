import os
import signal

import pytest

from harness.terminal.errors import UserError
from harness.training import agreement


def test_one_process_agrees_with_itself() -> None:
    assert agreement.agreed(lambda: {"a": 1}) == {"a": 1}

    def fail() -> None:
        raise UserError("one line")

    with pytest.raises(UserError, match="one line"):
        agreement.agreed(fail)


def test_a_signal_to_end_is_noted_and_the_former_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with agreement.termination() as came:
        assert not came(0)
        os.kill(os.getpid(), signal.SIGTERM)
        assert came(1)
    assert signal.getsignal(signal.SIGTERM) is before
    with agreement.termination() as came:
        assert not came(0)
